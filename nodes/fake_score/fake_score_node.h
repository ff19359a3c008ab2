// The fake-score process: gives the generator its gradient and tracks the student's distribution.
#pragma once

#include <map>
#include <set>
#include <utility>

#include "common/metrics/event_writer.h"
#include "nodes/ring_node.h"
#include "pipeline/training/fake_score.h"
#include "pipeline/training/stability.h"

namespace sgmd {

/// Gradients of step k are taken with the parameters after k * R updates: all micro-batches of a step first, in the
/// order in which they arrive (they do not touch parameters), then the R inner updates over them, in order of index.
class FakeScoreNode {
 public:
  explicit FakeScoreNode(const RingNode& node);
  /// Until the broker closes the run. Returns the exit code: 0, or kExitRollBack.
  int Run();

 private:
  void OnMessage(const Envelope& message);
  void Advance();
  void AnswerGradient(const Envelope& scored);
  void RunInnerUpdates();
  void ReportInnerLoop(double loss, const AdamW::StepReport& report);
  void SaveCheckpointPart();

  const Experiment& experiment() const { return node_.plan.experiment; }

  RingNode node_;
  FakeScore fake_;
  StabilityMonitor monitor_{"fake_score", "fake_score_loss"};
  EventWriter events_;
  Heartbeat heartbeat_;
  Client client_;
  std::int64_t step_ = 0;                                 // inner loops done
  std::map<std::int64_t, std::vector<Envelope>> scored_;  // by step, not yet answered
  std::set<std::int64_t> parts_wanted_;                   // checkpoints asked for beside the periodic ones
};

}  // namespace sgmd
