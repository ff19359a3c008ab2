// The generator process: rolls out, waits for gradients, updates the student, commits checkpoints.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "common/metrics/event_writer.h"
#include "common/storage/checkpoint_store.h"
#include "nodes/generator/admission.h"
#include "nodes/generator/anchors.h"
#include "nodes/ring_node.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/stability.h"

namespace sgmd {

/// Keeps of what is in flight only the input of the exit step, and runs that step again when its gradient arrives: any
/// number of micro-batches in flight costs no activation memory.
class GeneratorNode {
 public:
  explicit GeneratorNode(const RingNode& node);
  /// Until all steps are done, or a drain: then a checkpoint is committed. Returns the exit code: 0, or kExitRollBack.
  int Run();

 private:
  struct InFlight {
    SamplePlan plan;
    at::Tensor x_exit;
    std::int64_t version = 0;  // updates done when it was rolled out
  };
  using Terms = std::map<std::string, double>;
  using Ticket = std::pair<std::int64_t, std::int64_t>;  // step, index

  void RollOut(std::int64_t step);
  void SendFreshSamples(std::int64_t step);
  void Land(std::int64_t step);
  void AccumulateAnchors(std::int64_t step, Terms& terms);
  void AccumulateGradients(std::int64_t step, Terms& terms);
  template <typename Condition>
  void WaitUntil(Condition condition);
  void OnMessage(const Envelope& message);
  void ReportStep(std::int64_t step, const AdamW::StepReport& report, Terms terms);
  void StageCheckpoint();
  void OnCheckpointPart(const Envelope& part);
  void CommitIfWhole(std::int64_t step);
  void CommitFinalCheckpoint();

  const Experiment& experiment() const { return node_.plan.experiment; }

  RingNode node_;
  Generator generator_;
  Admission admission_;
  CheckpointStore checkpoints_;
  StabilityMonitor monitor_{"generator", "generator_loss"};
  EventWriter events_;
  Heartbeat heartbeat_;
  Client client_;
  Anchors anchors_;
  std::int64_t landed_ = 0;  // updates done
  std::int64_t next_rollout_ = 0;
  std::map<Ticket, InFlight> in_flight_;
  std::map<Ticket, Envelope> gradients_;                                  // arrived, not yet used
  double rollout_seconds_ = 0, wait_seconds_ = 0, backward_seconds_ = 0;  // of the current step

  struct Staged {
    std::map<std::string, Digest> files;
    int parts = 0;          // files of the fake score that have arrived
    std::optional<int> of;  // how many it announced
    bool own = false;       // ours are written
  };
  std::map<std::int64_t, Staged> staged_;
  std::int64_t committed_ = -1;  // step of the newest commit
};

}  // namespace sgmd
