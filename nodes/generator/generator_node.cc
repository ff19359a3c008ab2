#include "nodes/generator/generator_node.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/metrics/work_count.h"
#include "common/storage/atomic_folder.h"
#include "common/trace/trace.h"
#include "nodes/generator/weight_chunks.h"
#include "nodes/ring/frames.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kForEver{-1};

// The student's weights are lost.
class Diverged : public Error {
 public:
  using Error::Error;
};

void RequireFinite(const TensorFrame& rollout, const char* what, const message::Ticket& ticket) {
  if (AllFinite(rollout.view)) return;
  throw Diverged(StrCat("the student has diverged: its ", what, " of step ", ticket.step, ", micro-batch ",
                        ticket.index, " holds an infinite value or no number"));
}

std::vector<std::int32_t> Ascending(std::int64_t count) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The micro-batches that the ranks of a group take at once, from place `from` on.
std::vector<std::int32_t> Round(const std::vector<std::int32_t>& order, std::size_t from, int ranks) {
  return {order.begin() + static_cast<std::ptrdiff_t>(from), order.begin() + static_cast<std::ptrdiff_t>(from) + ranks};
}

// Adds the time of a scope to a sum, in seconds.
class Timed {
 public:
  Timed(double* sum, const char* name, trace::About about) : sum_(sum), span_(name, about) {}
  ~Timed() { *sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double* sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  trace::Span span_;
};

}  // namespace

GeneratorNode::GeneratorNode(const RingNode& node)
    : node_(node),
      generator_(experiment(), node.device, node.plan.topology.generator.checkpoint_blocks, *node.group),
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

void GeneratorNode::Begin(std::int64_t step) {
  const Timed timed(&rollout_seconds_, "roll out", {step});
  const bool due = step > 0 && step > checkpoints_->committed() && step % experiment().checkpoint.every == 0;
  if (due && monitor_.healthy()) OrderCheckpoint(step);
  anchors_.Ask(step);  // before its samples: the broker holds the fake score's checkpoint for what it has been asked
  if (RollsOut(experiment(), step)) RollOut(step);
  if (step + 1 < end()) anchors_.Ask(step + 1);
  if (experiment().inner.source == InnerSource::kFresh) SendFreshSamples(step);
}

void GeneratorNode::RollOut(std::int64_t step) {
  const std::vector<std::int32_t> order = SamplesByExit(experiment(), step);
  for (std::size_t from = 0; from < order.size(); from += generator_.ranks()) {
    std::vector<GeneratorGroup::Planned> round;
    for (const std::int32_t index : Round(order, from, generator_.ranks()))
      round.push_back({index, PlanSample(experiment(), generator_.bank(), step, index)});
    const auto rollouts = generator_.RollOut(step, round, KeepsGraphs(step, from));
    for (std::size_t i = 0; i < round.size(); ++i) SendOff(step, round[i], rollouts[i]);
    CountWork();
  }
}

void GeneratorNode::SendOff(std::int64_t step, const GeneratorGroup::Planned& planned,
                            const Generator::Rollout& rollout) {
  const auto& [index, plan] = planned;
  const TensorFrame x_g = ToFrame(rollout.x_g);
  RequireFinite(x_g, "rollout", {step, index});
  const TensorFrame x_s = ToFrame(AddNoise(rollout.x_g, plan.score_noise, plan.score_sigma));
  if (InnerLoopComesFirst())
    client_.Send(ToEnvelope(message::InnerSample{{step, index}, 0, x_g, PromptsToFrame(plan.prompts)}));
  client_.Send(ToEnvelope(
      message::Sample{{step, index}, landed_, x_g, x_s, ToFrame(plan.score_sigma), PromptsToFrame(plan.prompts)}));
  gradients_.Expect({step, index}, {plan, rollout.exit, landed_});
  for (std::int64_t use = 1; use < experiment().outer.reuse; ++use)
    gradients_.Expect({step + use, index}, {plan, {rollout.exit.x}, landed_});
}

// Of the round that begins at place `from` of the step's order. A graph holds as long as the weights are those of the
// rollout: for the step that lands next. The ranks of a group have them, so they must take the same round again: where
// less than a step lands, they may not.
bool GeneratorNode::KeepsGraphs(std::int64_t step, std::size_t from) const {
  const bool same_rounds =
      generator_.ranks() == 1 || LandedMicroBatches(experiment()) == experiment().data.micro_batches;
  const auto kept = static_cast<std::size_t>(node_.plan.topology.generator.keep_exit_graphs);
  return step == landed_ && same_rounds && from + generator_.ranks() <= kept;
}

// Whether the fake score is to have the samples before they are scored.
bool GeneratorNode::InnerLoopComesFirst() const {
  const Experiment::Inner& inner = experiment().inner;
  return inner.pace == InnerPacing::kFree || (inner.order == InnerOrder::kBefore && !HasRollouts(inner.source));
}

// Before the step's update they are rolled out while its gradients are on their way; after it, the fake score waits for
// them with its inner loop, and so do the next step's gradients.
void GeneratorNode::SendFreshSamples(std::int64_t step) {
  for (std::int64_t update = 0; update < experiment().inner.updates; ++update) {
    const std::vector<std::int32_t> order = FreshSamplesByExit(experiment(), step, update);
    for (std::size_t from = 0; from < order.size(); from += generator_.ranks()) {
      const trace::Span span("roll out for the inner loop", {step, order[from]});
      std::vector<GeneratorGroup::Planned> round;
      for (const std::int32_t index : Round(order, from, generator_.ranks()))
        round.push_back({index, PlanFreshSample(experiment(), generator_.bank(), step, index, update)});
      const std::vector<at::Tensor> rollouts = generator_.RollOutFresh(step, update, round);
      for (std::size_t i = 0; i < round.size(); ++i) {
        const auto& [index, plan] = round[i];
        const TensorFrame x_g = ToFrame(rollouts[i]);
        RequireFinite(x_g, "rollout for the inner loop", {step, index});
        client_.Send(ToEnvelope(message::InnerSample{{step, index}, update, x_g, PromptsToFrame(plan.prompts)}));
      }
      CountWork();
    }
  }
}

void GeneratorNode::Land(std::int64_t step) {
  Terms terms{{"in_flight", static_cast<double>(gradients_.in_flight())}};
  if (experiment().diversity.weight > 0) AccumulateAnchors(step, terms);
  AccumulateGradients(step, terms);
  const AdamW::StepReport report = Update(step);
  ++landed_;
  if (experiment().objective.alignment > 0) SendWeights(step);
  if (experiment().inner.source == InnerSource::kFreshAfter) SendFreshSamples(step);
  ReportStep(step, report, std::move(terms));
}

AdamW::StepReport GeneratorNode::Update(std::int64_t step) {
  const trace::Span span("optimizer", {step});
  return generator_.Update();
}

void GeneratorNode::SendWeights(std::int64_t step) {
  const trace::Span span("send weights", {step});
  for (const message::StudentWeights& chunk : ChunksOf(step, generator_.Weights())) {
    client_.Send(ToEnvelope(chunk));
    CountWork();
  }
}

// While the gradients of the step are on their way. Always first and in order of index: the order of the sums decides
// their last bit.
void GeneratorNode::AccumulateAnchors(std::int64_t step, Terms& terms) {
  const double share = 1.0 / static_cast<double>(experiment().data.micro_batches);
  const std::vector<std::int32_t> order = Ascending(experiment().data.micro_batches);
  for (std::size_t from = 0; from < order.size(); from += generator_.ranks()) {
    const std::vector<std::int32_t> round = Round(order, from, generator_.ranks());
    WaitUntil("wait for an anchor", {step, round.back()}, [&] {
      return std::ranges::all_of(round, [&](std::int32_t index) { return anchors_.Has({step, index}); });
    });
    const Timed timed(&backward_seconds_, "diversity forward and backward", {step, round.front()});
    AnchorPlan own;
    std::vector<at::Tensor> x_a;
    for (const std::int32_t index : round) {
      const Anchors::Arrived anchor = anchors_.Take({step, index});
      if (x_a.empty()) own = anchor.plan;
      x_a.push_back(ToTensor(anchor.answer.x_a));
      terms["anchor_hit_rate"] += anchor.answer.cache_hit ? share : 0;
    }
    for (const double loss : generator_.AccumulateDiversity(step, round, own, x_a))
      terms["diversity_loss"] += share * loss;
    CountWork();
  }
}

// Which micro-batches train the student in `step`, in the order of their sums. Waits where that is not known.
std::vector<std::int32_t> GeneratorNode::Landing(std::int64_t step) {
  std::vector<std::int32_t> order = SamplesByExit(experiment(), step);
  const auto count = static_cast<std::size_t>(LandedMicroBatches(experiment()));
  if (count == order.size()) return order;
  WaitUntil("wait for gradients", {step}, [&] { return gradients_.Of(step).size() == count; });
  const std::vector<std::int32_t> here = gradients_.Of(step);
  std::erase_if(order, [&](std::int32_t index) { return !std::ranges::binary_search(here, index); });
  return order;
}

void GeneratorNode::AccumulateGradients(std::int64_t step, Terms& terms) {
  const std::vector<std::int32_t> order = Landing(step);
  for (std::size_t from = 0; from < order.size(); from += generator_.ranks()) {
    const std::vector<std::int32_t> round = Round(order, from, generator_.ranks());
    WaitUntil("wait for a gradient", {step, round.back()}, [&] {
      return std::ranges::all_of(round, [&](std::int32_t index) { return gradients_.Has({step, index}); });
    });
    const Timed timed(&backward_seconds_, "forward and backward", {step, round.front()});
    Accumulate(step, round, terms);
    CountWork();
  }
  gradients_.Forget(step);
}

void GeneratorNode::Accumulate(std::int64_t step, const std::vector<std::int32_t>& round, Terms& terms) {
  const double share = 1.0 / static_cast<double>(LandedMicroBatches(experiment()));
  std::vector<GeneratorGroup::Scored> scored;
  for (const std::int32_t index : round) {
    const auto [sample, answer] = gradients_.Take({step, index});
    scored.push_back({index, sample.plan, sample.exit, ToTensor(answer.gradient)});
    for (const auto& [name, value] : answer.terms) terms[name] += share * value;
    terms["cache_hit_rate"] += answer.cache_hit ? share : 0;
    terms["staleness"] += share * static_cast<double>(landed_ - sample.version);
  }
  generator_.Accumulate(step, scored);
}

template <typename Condition>
void GeneratorNode::WaitUntil(const char* what, trace::About about, Condition condition) {
  const Timed timed(&wait_seconds_, what, about);
  while (!condition()) {
    if (const auto message = client_.Receive(kForEver)) OnMessage(*message);
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

void GeneratorNode::ReportStep(std::int64_t step, const AdamW::StepReport& report, Terms terms) {
  const trace::Span span("report", {step});
  terms["grad_norm/student"] = report.gradient_norm;
  terms["generator_learning_rate"] = report.learning_rate;
  terms["rollout_sec"] = rollout_seconds_;
  terms["wait_sec"] = wait_seconds_;
  terms["backward_sec"] = backward_seconds_;
  rollout_seconds_ = wait_seconds_ = backward_seconds_ = 0;
  terms.merge(monitor_.Observe(step, report, terms["generator_loss"]));
  for (const auto& [name, value] : terms) events_.Scalar(TagOf(name), step, value);
  terms["step"] = static_cast<double>(landed_);
  heartbeat_.Report(terms);
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

int FollowGenerator(const RingNode& node) {
  GeneratorGroup group(node.plan.experiment, node.device, node.plan.topology.generator.checkpoint_blocks, *node.group);
  const Topology::Transport& transport = node.plan.topology.transport;
  const Heartbeat heartbeat(transport.control, node.identity, transport.beat_seconds);
  LogInfo("ready on ", node.device.str());
  group.Follow();
  return 0;
}

}  // namespace sgmd
