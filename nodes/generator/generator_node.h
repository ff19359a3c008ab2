// The generator process: rolls out, waits for gradients, updates the student, commits checkpoints.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/error/error.h"
#include "common/messages/ring.h"
#include "common/metrics/event_writer.h"
#include "common/metrics/tags.h"
#include "common/signals/signals.h"
#include "common/trace/trace.h"
#include "nodes/generator/admission.h"
#include "nodes/generator/anchors.h"
#include "nodes/generator/checkpoint_commit.h"
#include "nodes/generator/gradients.h"
#include "nodes/ring/join.h"
#include "pipeline/training/generator_group.h"
#include "pipeline/training/stability.h"

namespace sgmd {

/// The student's weights are lost.
class Diverged : public Error {
 public:
  using Error::Error;
};

/// Keeps of what is in flight only the input of the exit step, and runs that step again when its gradient arrives: any
/// number of micro-batches in flight costs no activation memory.
///
/// It alone decides when there is a checkpoint: it orders that of step k before it sends the first sample of step k
/// (or, at the end of the run, when no further sample is in flight), and stages its own part after update k and before
/// update k + 1. With [objective] alignment it sends the fake score the student's weights right after update k: before
/// what it rolls out with them, and before it orders a checkpoint that is to hold what comes of them.
///
/// After an update that was skipped there is no checkpoint: it orders none. A run that ends so leaves the last good
/// checkpoint and its student.
///
/// Of a group of ranks it is rank 0, and the others follow it (nodes/ring/follow.h).
class GeneratorNode {
 public:
  explicit GeneratorNode(const RingNode& node);
  /// Until all steps are done, or the broker or a signal (`stop.in_order`) drains the run: then a checkpoint is
  /// committed. Returns the exit code: 0, or kExitRollBack when the student has diverged: a rollout is not finite, or
  /// gradients are not several times in a row.
  int Run(const StopRequests& stop);

 private:
  using Terms = std::map<std::string, double>;

  int Train(const StopRequests& stop);
  void Finish();
  void Begin(std::int64_t step);
  void RollOut(std::int64_t step);
  bool KeepsGraphs(std::int64_t step, std::size_t from) const;
  void SendOff(std::int64_t step, const GeneratorGroup::Planned& planned, const Generator::Rollout& rollout);
  bool InnerLoopComesFirst() const;
  void SendFreshSamples(std::int64_t step);
  void Land(std::int64_t step);
  AdamW::StepReport Update(std::int64_t step);
  void SendWeights(std::int64_t step);
  void AccumulateAnchors(std::int64_t step, Terms& terms);
  std::vector<std::int32_t> Landing(std::int64_t step);
  void Accumulate(std::int64_t step, const std::vector<std::int32_t>& round, Terms& terms);
  void AccumulateGradients(std::int64_t step, Terms& terms);
  template <typename Condition>
  void WaitUntil(const char* what, trace::About about, Condition condition);
  void OnMessage(const Envelope& message);
  void ReportStep(std::int64_t step, const AdamW::StepReport& report, Terms terms);
  void OrderCheckpoint(std::int64_t step);
  void StageCheckpoint();
  void RememberPause() const;
  bool CommitFinalCheckpoint();
  CheckpointStore Store() const;

  const Experiment& experiment() const { return node_.plan.experiment; }
  // The step that it ends at, unless it is drained before.
  std::int64_t end() const { return node_.plan.start.until > 0 ? node_.plan.start.until : experiment().steps; }

  RingNode node_;
  GeneratorGroup generator_;
  Admission admission_;
  std::optional<CheckpointCommit> checkpoints_;  // made when it is known where the run resumes
  StabilityMonitor monitor_{"generator", "generator_loss"};
  EventWriter events_;
  Heartbeat heartbeat_;
  Client client_;
  Anchors anchors_;
  std::int64_t landed_ = 0;        // updates done
  std::int64_t next_rollout_ = 0;  // the next step to begin
  Gradients gradients_;
  std::set<std::int64_t> ordered_;  // checkpoints that it has yet to stage its part of
  double rollout_seconds_ = 0, wait_seconds_ = 0, backward_seconds_ = 0;  // of the current step
};

}  // namespace sgmd
