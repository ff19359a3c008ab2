#include "nodes/fake_score/fake_score_node.h"

#include <chrono>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/checkpoint_store.h"

namespace sgmd {
namespace {

at::Tensor TensorOf(const Envelope& message, const char* name) { return CopyToTensor(message.At(name).view); }

std::vector<Digest> PromptsOf(const Envelope& message) { return PromptsFromTensor(TensorOf(message, "prompts")); }

}  // namespace

FakeScoreNode::FakeScoreNode(const RingNode& node)
    : node_(node),
      fake_(experiment(), node.device, node.plan.topology.fake_score.checkpoint_blocks),
      events_(RunFolder{node.plan.topology.run.folder}.Events() / "fake_score"),
      heartbeat_(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds),
      client_(node.Connect()) {
  if (const std::int64_t step = node.plan.start.step; step > 0) {
    const CheckpointStore store(RunFolder{node.plan.topology.run.folder}.Checkpoints(), node.identity.run_id);
    fake_.LoadState(store.At(step, "fake_score").folder);
    step_ = step;
  }
  LogInfo("ready on ", node.device.str(), " at step ", step_);
}

int FakeScoreNode::Run() {
  while (true) {
    const auto message = client_.Receive(std::chrono::milliseconds(-1));
    if (!message) continue;
    if (message->kind == wire::Kind::Close) return 0;
    OnMessage(*message);
    Advance();
    if (monitor_.must_roll_back()) {
      LogError("no finite gradient in the inner loops ", step_ - StabilityMonitor::kSkipsToRollBack, " to ", step_ - 1);
      return kExitRollBack;
    }
  }
}

void FakeScoreNode::OnMessage(const Envelope& message) {
  switch (message.kind) {
    case wire::Kind::ScoredSample:
      scored_[message.step].push_back(message);
      return;
    case wire::Kind::InnerSample:
      fake_.samples().AddFresh(message.step, message.version, message.index,
                               {TensorOf(message, "x_g"), PromptsOf(message)});
      return;
    case wire::Kind::CheckpointPart:
      parts_wanted_.insert(message.step);
      break;
    default:
      LogWarning("unexpected ", wire::EnumNameKind(message.kind));
  }
  if (parts_wanted_.contains(step_)) SaveCheckpointPart();
}

// Everything that can be done with what has arrived.
void FakeScoreNode::Advance() {
  while (true) {
    const auto ready = scored_.find(step_);
    if (ready != scored_.end()) {
      const std::vector<Envelope> batch = std::move(ready->second);
      scored_.erase(ready);
      for (const Envelope& scored : batch) AnswerGradient(scored);
    }
    if (!fake_.samples().Complete(step_)) return;
    RunInnerUpdates();
    if (step_ % experiment().checkpoint.every == 0 || parts_wanted_.contains(step_)) SaveCheckpointPart();
  }
}

void FakeScoreNode::AnswerGradient(const Envelope& scored) {
  InnerSample sample{TensorOf(scored, "x_g"), PromptsOf(scored)};
  const GeneratorGradient result = fake_.Gradient(sample.x_g, TensorOf(scored, "x_s"), TensorOf(scored, "sigma"),
                                                  TensorOf(scored, "velocity"), sample.prompts);
  Envelope answer;
  answer.kind = wire::Kind::Gradient;
  answer.step = scored.step;
  answer.index = scored.index;
  answer.version = step_ * experiment().inner.updates;
  answer.scalars = result.terms;
  answer.scalars["cache_hit"] = scored.scalars.contains("cache_hit") ? scored.scalars.at("cache_hit") : 0;
  answer.tensors.push_back(ToFrame("gradient", result.gradient));
  client_.Send(std::move(answer));
  fake_.samples().AddScored(scored.step, scored.index, std::move(sample));
  heartbeat_.Progress();
}

void FakeScoreNode::RunInnerUpdates() {
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
  ++step_;
}

void FakeScoreNode::ReportInnerLoop(double loss, const AdamW::StepReport& report) {
  std::map<std::string, double> scalars = monitor_.Observe(step_, report, loss);
  scalars["fake_score_loss"] = loss;
  scalars["grad_norm/critic"] = report.gradient_norm;
  scalars["fake_score_learning_rate"] = report.learning_rate;
  for (const auto& [name, value] : scalars) events_.Scalar(name, step_, value);
  heartbeat_.Report(scalars);
}

void FakeScoreNode::SaveCheckpointPart() {
  parts_wanted_.erase(step_);
  const CheckpointStore store(RunFolder{node_.plan.topology.run.folder}.Checkpoints(), node_.identity.run_id);
  const std::filesystem::path staged = store.Stage(step_);
  const std::vector<std::string> names = fake_.SaveState(staged);
  for (const std::string& name : names) {
    Envelope part;
    part.kind = wire::Kind::CheckpointPart;
    part.step = step_;
    part.text = name;
    part.digest = DigestFile(staged / name);
    part.count = static_cast<std::int32_t>(names.size());
    part.scalars = {{"forward_equivalents", fake_.work().ForwardEquivalents()}};
    client_.Send(std::move(part));
  }
}

}  // namespace sgmd
