#include "nodes/generator/generator_node.h"

#include <chrono>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kForEver{-1};

// Adds the time of a scope to a sum, in seconds.
class Timed {
 public:
  explicit Timed(double* sum) : sum_(sum) {}
  ~Timed() { *sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double* sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Envelope Message(wire::Kind kind, std::int64_t step, std::int64_t index) {
  Envelope message;
  message.kind = kind;
  message.step = step;
  message.index = static_cast<std::int32_t>(index);
  return message;
}

}  // namespace

GeneratorNode::GeneratorNode(const RingNode& node)
    : node_(node),
      generator_(experiment(), node.device, node.plan.topology.generator.checkpoint_blocks),
      admission_{experiment().max_staleness},
      checkpoints_(RunFolder{node.plan.topology.run.folder}.Checkpoints(), node.identity.run_id),
      events_(RunFolder{node.plan.topology.run.folder}.Events() / "generator"),
      heartbeat_(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds),
      client_(node.Connect()),
      anchors_(node_.plan.experiment, generator_.bank(), client_) {
  if (const std::int64_t step = node.plan.start.step; step > 0) {
    generator_.LoadState(checkpoints_.At(step, "generator").folder);
    landed_ = next_rollout_ = committed_ = step;
  }
  LogInfo("ready on ", node.device.str(), ", ", landed_ > 0 ? "resuming" : "starting", " at step ", landed_, " of ",
          experiment().steps);
}

int GeneratorNode::Run() {
  heartbeat_.Report({{"step", static_cast<double>(landed_)}});
  // A drain admits nothing new and lands what is in flight, so that the checkpoint lies on a step boundary.
  while (landed_ < experiment().steps) {
    const bool draining = heartbeat_.drain_requested();
    if (draining && next_rollout_ == landed_) break;
    double seconds = 0;
    {
      const Timed timed(&seconds);
      while (!draining && next_rollout_ < experiment().steps && admission_.Admits(next_rollout_, landed_)) {
        RollOut(next_rollout_++);
      }
      Land(landed_);
    }
    if (monitor_.must_roll_back()) {
      LogError("no finite gradient at steps ", landed_ - StabilityMonitor::kSkipsToRollBack, " to ", landed_ - 1);
      return kExitRollBack;
    }
    heartbeat_.Report({{"step_time_sec", seconds}});
    events_.Scalar("step_time_sec", landed_ - 1, seconds);
    if (landed_ % experiment().checkpoint.every == 0) StageCheckpoint();
  }
  CommitFinalCheckpoint();
  const bool complete = landed_ == experiment().steps;
  const std::filesystem::path student = RunFolder{node_.plan.topology.run.folder}.Student();
  generator_.SaveStudent(StagingFolder(student));
  CommitFolder(student);
  LogInfo(complete ? "finished" : "drained", " at step ", landed_, "; student in ", student.string());
  Envelope finished = Message(wire::Kind::Finished, landed_, 0);
  finished.scalars = {{"forward_equivalents", generator_.work().ForwardEquivalents()}};
  client_.Send(std::move(finished));
  while (const auto message = client_.Receive(std::chrono::seconds(10))) {
    if (message->kind == wire::Kind::Close) break;
  }
  return 0;
}

void GeneratorNode::RollOut(std::int64_t step) {
  const Timed timed(&rollout_seconds_);
  anchors_.Ask(step);  // before its samples: the broker holds the fake score's checkpoint for what it has been asked
  for (std::int64_t index = 0; index < experiment().data.micro_batches; ++index) {
    SamplePlan plan = PlanSample(experiment(), generator_.bank(), step, index);
    const Generator::Rollout rollout = generator_.RollOut(plan);
    Envelope sample = Message(wire::Kind::Sample, step, index);
    sample.version = landed_;
    sample.tensors = {ToFrame("x_g", rollout.x_g),
                      ToFrame("x_s", AddNoise(rollout.x_g, plan.score_noise, plan.score_sigma)),
                      ToFrame("sigma", plan.score_sigma), ToFrame("prompts", PromptsToTensor(plan.prompts))};
    client_.Send(std::move(sample));
    in_flight_[{step, index}] = {std::move(plan), rollout.x_exit, landed_};
    heartbeat_.Progress();
  }
  anchors_.Ask(step + 1);
  if (experiment().inner.source == InnerSource::kFresh) SendFreshSamples(step);
}

// Rolled out with the student before this step's update, while its gradients are on their way.
void GeneratorNode::SendFreshSamples(std::int64_t step) {
  for (std::int64_t update = 0; update < experiment().inner.updates; ++update) {
    for (std::int64_t index = 0; index < experiment().data.micro_batches; ++index) {
      const SamplePlan plan = PlanFreshSample(experiment(), generator_.bank(), step, index, update);
      Envelope sample = Message(wire::Kind::InnerSample, step, index);
      sample.version = update;
      sample.tensors = {ToFrame("x_g", generator_.RollOut(plan).x_g),
                        ToFrame("prompts", PromptsToTensor(plan.prompts))};
      client_.Send(std::move(sample));
      heartbeat_.Progress();
    }
  }
}

void GeneratorNode::Land(std::int64_t step) {
  Terms terms{{"in_flight", static_cast<double>(in_flight_.size())}};
  if (experiment().diversity.weight > 0) AccumulateAnchors(step, terms);
  AccumulateGradients(step, terms);
  const AdamW::StepReport report = generator_.Update();
  ++landed_;
  ReportStep(step, report, std::move(terms));
}

// While the gradients of the step are on their way. Always first and in order of index: the order of the sums decides
// their last bit.
void GeneratorNode::AccumulateAnchors(std::int64_t step, Terms& terms) {
  const double share = 1.0 / static_cast<double>(experiment().data.micro_batches);
  for (std::int64_t index = 0; index < experiment().data.micro_batches; ++index) {
    WaitUntil([&] { return anchors_.Has(step, index); });
    const Timed timed(&backward_seconds_);
    const Anchors::Anchor anchor = anchors_.Take(step, index);
    terms["diversity_loss"] +=
        share * generator_.AccumulateDiversity(anchor.plan, CopyToTensor(anchor.answer.At("x_a").view));
    terms["anchor_hit_rate"] += share * anchor.answer.scalars.at("cache_hit");
    heartbeat_.Progress();
  }
}

void GeneratorNode::AccumulateGradients(std::int64_t step, Terms& terms) {
  const double share = 1.0 / static_cast<double>(experiment().data.micro_batches);
  for (std::int64_t index = 0; index < experiment().data.micro_batches; ++index) {
    WaitUntil([&] { return gradients_.contains({step, index}); });
    const Timed timed(&backward_seconds_);
    const Envelope answer = std::move(gradients_.extract({step, index}).mapped());
    const InFlight sample = std::move(in_flight_.extract({step, index}).mapped());
    generator_.Accumulate(sample.plan, sample.x_exit, CopyToTensor(answer.At("gradient").view));
    for (const auto& [name, value] : answer.scalars)
      terms[name == "cache_hit" ? "cache_hit_rate" : name] += share * value;
    terms["staleness"] += share * static_cast<double>(landed_ - sample.version);
    heartbeat_.Progress();
  }
}

template <typename Condition>
void GeneratorNode::WaitUntil(Condition condition) {
  const Timed timed(&wait_seconds_);
  while (!condition()) {
    if (const auto message = client_.Receive(kForEver)) OnMessage(*message);
  }
}

void GeneratorNode::OnMessage(const Envelope& message) {
  switch (message.kind) {
    case wire::Kind::Gradient:
      if (in_flight_.contains({message.step, message.index})) gradients_[{message.step, message.index}] = message;
      return;
    case wire::Kind::Anchor:
      return anchors_.Accept(message);
    case wire::Kind::CheckpointPart:
      return OnCheckpointPart(message);
    case wire::Kind::Close:
      throw Error("the broker closed the run before it was finished");
    default:
      LogWarning("unexpected ", wire::EnumNameKind(message.kind));
  }
}

// Tags are those of FastVideo where it has them: generator_loss, step_time_sec, grad_norm/student.
void GeneratorNode::ReportStep(std::int64_t step, const AdamW::StepReport& report, Terms terms) {
  terms["grad_norm/student"] = report.gradient_norm;
  terms["generator_learning_rate"] = report.learning_rate;
  terms["rollout_sec"] = rollout_seconds_;
  terms["wait_sec"] = wait_seconds_;
  terms["backward_sec"] = backward_seconds_;
  rollout_seconds_ = wait_seconds_ = backward_seconds_ = 0;
  terms.merge(monitor_.Observe(step, report, terms["generator_loss"]));
  for (const auto& [name, value] : terms) events_.Scalar(name, step, value);
  terms["step"] = static_cast<double>(landed_);
  heartbeat_.Report(terms);
}

void GeneratorNode::StageCheckpoint() {
  const std::filesystem::path staged = checkpoints_.Stage(landed_);
  Staged& entry = staged_[landed_];
  for (const std::string& name : generator_.SaveState(staged)) entry.files[name] = DigestFile(staged / name);
  entry.own = true;
  CommitIfWhole(landed_);
}

void GeneratorNode::OnCheckpointPart(const Envelope& part) {
  Staged& entry = staged_[part.step];
  entry.files[part.text] = part.digest;
  entry.of = part.count;
  ++entry.parts;
  CommitIfWhole(part.step);
}

void GeneratorNode::CommitIfWhole(std::int64_t step) {
  const Staged& entry = staged_[step];
  if (!entry.own || !entry.of || entry.parts < *entry.of) return;
  checkpoints_.Commit(step, entry.files, experiment().checkpoint.keep);
  committed_ = std::max(committed_, step);
  staged_.erase(step);
  LogInfo("checkpoint at step ", step);
}

void GeneratorNode::CommitFinalCheckpoint() {
  if (committed_ == landed_) return;
  if (landed_ % experiment().checkpoint.every != 0) {
    StageCheckpoint();
    client_.Send(Message(wire::Kind::CheckpointPart, landed_, 0));
  }
  while (committed_ < landed_) {
    if (const auto message = client_.Receive(kForEver)) OnMessage(*message);
  }
}

}  // namespace sgmd
