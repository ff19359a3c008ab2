// The fake-score process: gives the generator its gradient and tracks the student's distribution.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "common/messages/ring.h"
#include "common/metrics/event_writer.h"
#include "common/metrics/tags.h"
#include "common/signals/signals.h"
#include "nodes/fake_score/checkpoint_orders.h"
#include "nodes/fake_score/inner_pace.h"
#include "nodes/fake_score/pace_record.h"
#include "nodes/fake_score/scored_samples.h"
#include "nodes/fake_score/student_weights.h"
#include "nodes/ring/join.h"
#include "pipeline/training/fake_score_group.h"
#include "pipeline/training/stability.h"

namespace sgmd {

/// Gradients of step k are taken with the parameters after k * R updates ([inner] order = after): all micro-batches of
/// a step first, as they arrive (they do not touch parameters), then the R inner updates, in order of index. With order
/// = before the updates come first, while the teachers score, and gradients are taken after (k + 1) R of them.
///
/// With [outer] reuse = U the samples of a step serve the U - 1 after it, too: their gradients are given as soon as the
/// step before is done, and nobody need ask for them.
///
/// At a free pace it does what InnerPace says, one thing after the other, and PaceRecord keeps the order.
///
/// Checkpoints are staged when ordered, never by a count of its own. An order for step k comes before any sample of
/// step k: the generator sends it first, and the broker keeps its messages in order. The inner loop of step k needs
/// those samples. So an order finds it at k inner loops or before, at any max_staleness, and waits for nothing that
/// waits for it. It stages at once, or as soon as k inner loops are done; in both cases before it looks at a sample of
/// step k.
///
/// After an update that was skipped it stages nothing: it declines the checkpoint. What comes twice changes nothing; an
/// order that does is answered again.
///
/// With [objective] alignment the last of step k is to align psi with the student after update k, whose weights the
/// generator sends. Until they are there step k is not done: checkpoints of k + 1 and samples of k + 1, which at
/// max_staleness = 1 come earlier, wait. The generator does not wait for it: its update k needs gradients of step k
/// alone.
///
/// Of a group of ranks it is rank 0, and the others follow it (nodes/ring/follow.h). Gradients are then taken for as
/// many micro-batches at once as the group has.
class FakeScoreNode {
 public:
  explicit FakeScoreNode(const RingNode& node);
  /// Until the broker closes the run, also after `stop.in_order`: a drain needs it. Returns the exit code: 0,
  /// or kExitRollBack.
  int Run(const StopRequests& stop);

 private:
  void OnMessage(const Envelope& message);
  void OnInnerSample(const message::InnerSample& sample);
  void OnCheckpointOrder(std::int64_t step);
  bool Advance();
  bool StepDone();
  bool InnerLoopDone();
  void FinishStep();
  bool DoNext();
  bool FinishFreeStep();
  void AnswerGradients(const std::vector<std::int32_t>& indices);
  void RunInnerUpdate(std::int64_t update, std::int64_t newest);
  double Accumulate(std::int64_t update, std::int64_t newest);
  bool AlignIfDue();
  void ReportInnerLoop();
  void StageCheckpointIfOrdered();
  CheckpointOrders::Parts StagedParts();
  void Send(const CheckpointOrders::Parts& parts);
  std::int64_t InnerLoops() const { return step_ + (inner_done_ ? 1 : 0); }  // done

  const Experiment& experiment() const { return node_.plan.experiment; }

  RingNode node_;
  std::vector<std::int64_t> latent_shape_;  // [micro_batch, C, F, H, W]
  FakeScoreGroup fake_;
  StabilityMonitor monitor_{"fake_score", "fake_score_loss"};
  EventWriter events_;
  Heartbeat heartbeat_;
  Client client_;
  std::int64_t step_ = 0;         // steps done
  std::int64_t psi_updates_ = 0;  // of the fake score since the start of training
  double paired_loss_ = 0;        // of the step so far, where inner gradients come with those of the generator
  bool inner_done_ = false;       // the inner loop of step_, which is not aligned
  ArrivedWeights student_;
  ScoredSamples scored_;
  InnerPace pace_;
  std::optional<PaceRecord> record_;  // with a free pace
  std::int64_t free_updates_ = 0;     // of the step, at a free pace
  struct {
    double loss = 0;  // sum over micro-batches
    AdamW::StepReport report;
  } inner_;  // of the last update
  CheckpointOrders orders_;
};

}  // namespace sgmd
