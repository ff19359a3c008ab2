#include "nodes/fake_score/fake_score_node.h"

#include <chrono>
#include <utility>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/storage/checkpoint_store.h"
#include "nodes/ring/frames.h"

namespace sgmd {
FakeScoreNode::FakeScoreNode(const RingNode& node)
    : node_(node),
      fake_(experiment(), node.device, node.plan.topology.fake_score.checkpoint_blocks),
      events_(RunFolder{node.plan.topology.run.folder}.Events() / Spell(Role::kFakeScore)),
      heartbeat_(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds),
      client_(node.Connect()) {
  if (const std::int64_t step = node.plan.start.step; step > 0) {
    const CheckpointStore store(RunFolder{node.plan.topology.run.folder}.Checkpoints(), node.identity.run_id);
    fake_.LoadState(store.At(step, Spell(Role::kFakeScore)).folder);
    step_ = step;
  }
  LogInfo("ready on ", node.device.str(), " at step ", step_);
}

int FakeScoreNode::Run(const StopRequests& stop) {
  bool told = false;
  while (true) {
    const auto message = client_.Receive(std::chrono::milliseconds(-1));
    if (stop.in_order && !std::exchange(told, true)) LogInfo("SIGTERM: it ends when the broker closes the run");
    if (!message) continue;
    if (message->kind == wire::Kind::Close) return 0;
    OnMessage(*message);
    Advance();
    if (monitor_.must_roll_back()) {
      LogError("no finite gradient in the inner loops ", InnerLoops() - StabilityMonitor::kSkipsToRollBack, " to ",
               InnerLoops() - 1);
      return kExitRollBack;
    }
  }
}

void FakeScoreNode::OnMessage(const Envelope& message) {
  switch (message.kind) {
    case wire::Kind::ScoredSample:
      scored_[message.step].push_back(FromEnvelope<message::ScoredSample>(message));
      return;
    case wire::Kind::InnerSample: {
      const auto fresh = FromEnvelope<message::InnerSample>(message);
      return fake_.samples().AddFresh(fresh.ticket.step, fresh.update, fresh.ticket.index,
                                      {ToTensor(fresh.x_g), PromptsFromFrame(fresh.prompts)});
    }
    case wire::Kind::StudentWeights:
      return student_.Add(FromEnvelope<message::StudentWeights>(message));
    case wire::Kind::CheckpointOrder:
      return OnCheckpointOrder(FromEnvelope<message::CheckpointOrder>(message).step);
    default:
      LogWarning("unexpected ", wire::EnumNameKind(message.kind));
  }
}

void FakeScoreNode::OnCheckpointOrder(std::int64_t step) {
  if (step < InnerLoops())
    throw Error(StrCat("the order to checkpoint step ", step, " came after ", InnerLoops(), " inner loops were done"));
  ordered_.insert(step);
  StageCheckpointIfOrdered();
}

// Everything that can be done with what has arrived.
void FakeScoreNode::Advance() {
  while (true) {
    if (const auto ready = scored_.extract(step_)) {
      for (const message::ScoredSample& scored : ready.mapped()) AnswerGradient(scored);
    }
    if (!inner_done_) {
      if (!fake_.samples().Complete(step_)) return;
      RunInnerUpdates();
    }
    if (!AlignIfDue()) return;
    ++step_;
    inner_done_ = false;
    StageCheckpointIfOrdered();
  }
}

void FakeScoreNode::AnswerGradient(const message::ScoredSample& scored) {
  const message::Sample& sample = scored.sample;
  InnerSample inner{ToTensor(sample.x_g), PromptsFromFrame(sample.prompts)};
  const GeneratorGradient result =
      fake_.Gradient(inner.x_g, ToTensor(sample.x_s), ToTensor(sample.sigma), ToTensor(scored.velocity), inner.prompts);
  client_.Send(ToEnvelope(message::Gradient{sample.ticket, step_ * experiment().inner.updates, scored.cache_hit,
                                            result.terms, ToFrame(result.gradient)}));
  fake_.samples().AddScored(sample.ticket.step, sample.ticket.index, std::move(inner));
  heartbeat_.Progress();
}

void FakeScoreNode::RunInnerUpdates() {
  failpoint::Hit("fake_score.step");
  double loss = 0;
  AdamW::StepReport report;
  for (std::int64_t update = 0; update < experiment().inner.updates; ++update) {
    loss = 0;
    for (std::int64_t index = 0; index < experiment().data.micro_batches; ++index) {
      loss += fake_.Accumulate(step_, update, index);
      heartbeat_.Progress();
    }
    report = fake_.Update();
  }
  if (experiment().inner.updates > 0)
    ReportInnerLoop(loss / static_cast<double>(experiment().data.micro_batches), report);
  fake_.samples().Finish(step_);
  inner_done_ = true;
}

// False where it cannot be done yet.
bool FakeScoreNode::AlignIfDue() {
  if (experiment().objective.alignment == 0) return true;
  if (!student_.Complete(step_)) return false;
  fake_.Align(student_.Take(step_));
  heartbeat_.Progress();
  return true;
}

void FakeScoreNode::ReportInnerLoop(double loss, const AdamW::StepReport& report) {
  std::map<std::string, double> scalars = monitor_.Observe(step_, report, loss);
  scalars["fake_score_loss"] = loss;
  scalars["grad_norm/critic"] = report.gradient_norm;
  scalars["fake_score_learning_rate"] = report.learning_rate;
  for (const auto& [name, value] : scalars) events_.Scalar(TagOf(name), step_, value);
  heartbeat_.Report(scalars);
}

void FakeScoreNode::StageCheckpointIfOrdered() {
  if (ordered_.erase(step_) == 0) return;
  const CheckpointStore store(RunFolder{node_.plan.topology.run.folder}.Checkpoints(), node_.identity.run_id);
  const std::filesystem::path staged = store.Stage(step_);
  if (failpoint::Fails("checkpoint.write")) ThrowErrno("cannot write", staged.string());
  const std::vector<std::string> names = fake_.SaveState(staged);
  for (const std::string& name : names) {
    client_.Send(ToEnvelope(message::CheckpointPart{step_, name, DigestFile(staged / name),
                                                    static_cast<std::int64_t>(names.size()),
                                                    fake_.work().ForwardEquivalents()}));
  }
}

}  // namespace sgmd
