#include "nodes/generator/generator_node.h"

#include <algorithm>
#include <chrono>

#include "common/config/role.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "common/trace/trace.h"
#include "nodes/generator/timed.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kForEver{-1};

}  // namespace

GeneratorNode::GeneratorNode(const RingNode& node)
    : node_(node),
      generator_(experiment(), node.device, RecomputationOf(node.plan.topology.generator), node.group),
      admission_{experiment().outer.max_staleness, experiment().checkpoint.every, experiment().pauses},
      events_(RunFolder{node.plan.topology.run.folder}.Events() / Spell(Role::kGenerator)),
      heartbeat_(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds),
      client_(node.Connect()),
      anchors_(node_.plan.experiment, generator_.bank(), client_) {
  const std::int64_t step = node_.plan.start.step;
  if (step > 0) {
    generator_.LoadState(Store().At(step, Spell(Role::kGenerator)).folder);
    landed_ = next_rollout_ = step;
  }
  checkpoints_.emplace(Store(), experiment().checkpoint.keep, step > 0 ? step : -1);
  LogInfo("ready on ", node.device.str(), ", ", landed_ > 0 ? "resuming" : "starting", " at step ", landed_, " of ",
          experiment().steps);
}

CheckpointStore GeneratorNode::Store() const {
  return {RunFolder{node_.plan.topology.run.folder}.Checkpoints(), node_.identity.run_id};
}

int GeneratorNode::Run(const StopRequests& stop) {
  heartbeat_.Report({{"step", static_cast<double>(landed_)}});
  try {
    const int code = Train(stop);
    if (code != 0) return code;
    Finish();
    generator_.End();
    return 0;
  } catch (const Diverged& error) {
    LogError(error.message());
    return kExitRollBack;
  }
}

int GeneratorNode::Train(const StopRequests& stop) {
  // A drain admits nothing new and lands what is in flight, so that the checkpoint lies on a step boundary.
  while (landed_ < end()) {
    const bool draining = heartbeat_.drain_requested() || stop.in_order;
    if (draining && next_rollout_ == landed_ && RollsOut(experiment(), landed_)) break;
    failpoint::Hit("generator.step");
    double seconds = 0;
    {
      const Timed timed(&seconds, "step", {landed_});
      const auto may_begin = [&] { return !draining || !RollsOut(experiment(), next_rollout_); };
      while (next_rollout_ < end() && admission_.Admits(next_rollout_, landed_) && may_begin()) Begin(next_rollout_++);
      if (ordered_.erase(landed_) > 0) StageCheckpoint();
      Land(landed_);
    }
    if (monitor_.must_roll_back()) {
      LogError("no finite gradient at steps ", landed_ - StabilityMonitor::kSkipsToRollBack, " to ", landed_ - 1);
      return kExitRollBack;
    }
    heartbeat_.Report({{"step_time_sec", seconds}});
    events_.Scalar(TagOf("step_time_sec"), landed_ - 1, seconds);
  }
  return 0;
}

void GeneratorNode::Finish() {
  const bool committed = CommitFinalCheckpoint();
  const std::int64_t good = std::max<std::int64_t>(checkpoints_->committed(), 0);
  const std::filesystem::path student = RunFolder{node_.plan.topology.run.folder}.Student();
  if (!committed) {
    LogWarning("the run ended at step ", landed_,
               " after an update that was skipped; the last good checkpoint is at step ", good,
               good > 0 ? ", and the student is of that one" : ", so there is no student");
    if (good > 0) generator_.LoadState(Store().At(good, Spell(Role::kGenerator)).folder);
  }
  if (good > 0) {
    generator_.SaveStudent(StagingFolder(student));
    if (failpoint::Fails("student.before_rename")) ThrowErrno("cannot rename into place", student.string());
    CommitFolder(student);
  }
  const bool complete = committed && landed_ == experiment().steps;
  LogInfo(complete ? "finished" : "drained", " at step ", good, good > 0 ? "; student in " + student.string() : "");
  client_.Send(ToEnvelope(message::Finished{good, generator_.CountedWork().ForwardEquivalents()}));
  while (const auto message = client_.Receive(std::chrono::seconds(10))) {
    if (message->kind == wire::Kind::Close) break;
  }
}

void GeneratorNode::OnMessage(const Envelope& message) {
  switch (message.kind) {
    case wire::Kind::Gradient:
      return gradients_.Accept(FromEnvelope<message::Gradient>(message));
    case wire::Kind::ServedAnchor:
      return anchors_.Accept(FromEnvelope<message::ServedAnchor>(message));
    case wire::Kind::CheckpointPart:
      return checkpoints_->OnPart(FromEnvelope<message::CheckpointPart>(message));
    case wire::Kind::Close:
      throw Error("the broker closed the run before it was finished");
    default:
      LogWarning("unexpected ", wire::EnumNameKind(message.kind));
  }
}

void GeneratorNode::OrderCheckpoint(std::int64_t step) {
  client_.Send(ToEnvelope(message::CheckpointOrder{step}));
  ordered_.insert(step);
}

void GeneratorNode::StageCheckpoint() {
  const trace::Span span("checkpoint", {landed_});
  if (checkpoints_->DeclinedByOther(landed_)) return checkpoints_->Decline(landed_);
  const std::filesystem::path staged = checkpoints_->Folder(landed_);
  if (failpoint::Fails("checkpoint.write")) ThrowErrno("cannot write", staged.string());
  checkpoints_->OnOwnFiles(landed_, generator_.SaveState(staged));
}

// Strict runs roll out the same with and without it.
void GeneratorNode::RememberPause() const {
  if (admission_.max_staleness == 0 || landed_ == experiment().steps || landed_ % experiment().checkpoint.every == 0)
    return;
  std::vector<std::int64_t> pauses = experiment().pauses;
  if (std::ranges::find(pauses, landed_) != pauses.end()) return;
  pauses.push_back(landed_);
  WritePauses({node_.plan.topology.run.folder}, pauses);
}

// False where there is none because an update was skipped. Earlier checkpoints are waited for in either case.
bool GeneratorNode::CommitFinalCheckpoint() {
  if (checkpoints_->committed() == landed_) return true;
  if (monitor_.healthy()) {
    RememberPause();
    client_.Send(ToEnvelope(message::CheckpointOrder{landed_}));
    StageCheckpoint();
  }
  while (checkpoints_->waiting()) {
    if (const auto message = client_.Receive(kForEver)) OnMessage(*message);
  }
  return checkpoints_->committed() == landed_;
}

}  // namespace sgmd
