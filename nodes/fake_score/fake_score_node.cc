#include "nodes/fake_score/fake_score_node.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <utility>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/metrics/work_count.h"
#include "common/storage/checkpoint_store.h"
#include "common/trace/trace.h"
#include "nodes/ring/frames.h"

namespace sgmd {
FakeScoreNode::FakeScoreNode(const RingNode& node)
    : node_(node),
      latent_shape_(LatentShape(experiment())),
      fake_(experiment(), node.device, RecomputationOf(node.plan.topology.fake_score), node.group),
      events_(RunFolder{node.plan.topology.run.folder}.Events() / Spell(Role::kFakeScore)),
      heartbeat_(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds),
      client_(node.Connect()),
      scored_(experiment()),
      pace_{LandedMicroBatches(experiment()), experiment().inner.min, experiment().inner.max} {
  if (const std::int64_t step = node.plan.start.step; step > 0) {
    const CheckpointStore store(RunFolder{node.plan.topology.run.folder}.Checkpoints(), node.identity.run_id);
    fake_.LoadState(store.At(step, Spell(Role::kFakeScore)).folder);
    step_ = step;
    psi_updates_ = step * experiment().inner.updates;
    scored_.Finish(step - 1);
  }
  const RunFolder folder{node.plan.topology.run.folder};
  if (experiment().inner.pace == InnerPacing::kFree) record_.emplace(folder.Pace(), folder.PaceToFollow(), step_);
  LogInfo("ready on ", node.device.str(), " at step ", step_);
}

int FakeScoreNode::Run(const StopRequests& stop) {
  bool told = false, more = false;
  while (true) {
    const auto message = client_.Receive(std::chrono::milliseconds(more ? 0 : -1));
    if (stop.in_order && !std::exchange(told, true)) LogInfo("SIGTERM: it ends when the broker closes the run");
    if (message && message->kind == wire::Kind::Close) {
      fake_.End();
      return 0;
    }
    if (message) OnMessage(*message);
    more = Advance();
    if (monitor_.must_roll_back()) {
      LogError("no finite gradient in the inner loops ", InnerLoops() - StabilityMonitor::kSkipsToRollBack, " to ",
               InnerLoops() - 1);
      return kExitRollBack;
    }
  }
}

void FakeScoreNode::OnMessage(const Envelope& message) {
  const trace::Span span("take in", {.kind = wire::EnumNameKind(message.kind)});
  switch (message.kind) {
    case wire::Kind::ScoredSample:
      return scored_.Add(FromEnvelope<message::ScoredSample>(message));
    case wire::Kind::InnerSample:
      return OnInnerSample(FromEnvelope<message::InnerSample>(message));
    case wire::Kind::StudentWeights:
      return student_.Add(FromEnvelope<message::StudentWeights>(message));
    case wire::Kind::CheckpointOrder:
      return OnCheckpointOrder(FromEnvelope<message::CheckpointOrder>(message).step);
    default:
      LogWarning("unexpected ", wire::EnumNameKind(message.kind));
  }
}

void FakeScoreNode::OnInnerSample(const message::InnerSample& sample) {
  RequireWhole(sample, latent_shape_);
  InnerSample inner{ToTensor(sample.x_g), PromptsFromFrame(sample.prompts)};
  const auto& [step, index] = sample.ticket;
  if (HasRollouts(experiment().inner.source)) {
    fake_.samples().AddFresh(step, sample.update, index, std::move(inner));
  } else {  // also of a step that is over, where a free pace did not wait for all of it
    fake_.samples().AddScored(step, index, std::move(inner));
  }
}

void FakeScoreNode::OnCheckpointOrder(std::int64_t step) {
  Send(orders_.OnOrder(step, InnerLoops()));
  StageCheckpointIfOrdered();
}

// Does what can be done with what has arrived: all of it, or at a free pace one thing, because what arrives meanwhile
// decides what is next. Whether there is more to do.
bool FakeScoreNode::Advance() {
  if (record_) return DoNext();
  while (StepDone()) FinishStep();
  return false;
}

// As far as it can be.
bool FakeScoreNode::StepDone() {
  const bool before = experiment().inner.order == InnerOrder::kBefore;
  if (before && !InnerLoopDone()) return false;
  const std::vector<std::int32_t> ready = scored_.Ready(step_);
  const auto ranks = static_cast<std::size_t>(fake_.round());
  for (std::size_t from = 0; from + ranks <= ready.size(); from += ranks)
    AnswerGradients(
        {ready.begin() + static_cast<std::ptrdiff_t>(from), ready.begin() + static_cast<std::ptrdiff_t>(from + ranks)});
  if (scored_.taken() < experiment().data.micro_batches) return false;
  if (!before && !InnerLoopDone()) return false;
  return AlignIfDue();
}

void FakeScoreNode::FinishStep() {
  fake_.samples().Finish(step_);
  scored_.Finish(step_++);
  inner_done_ = false;
  StageCheckpointIfOrdered();
}

// The inner loop of the step; it is run if it can be.
bool FakeScoreNode::InnerLoopDone() {
  if (inner_done_ || !fake_.samples().Complete(step_)) return inner_done_;
  failpoint::Hit("fake_score.step");
  for (std::int64_t update = 0; update < experiment().inner.updates; ++update) RunInnerUpdate(update, step_);
  if (experiment().inner.updates > 0) ReportInnerLoop();
  inner_done_ = true;
  return true;
}

// The next thing at a free pace; false where it must wait for that.
bool FakeScoreNode::DoNext() {
  const std::vector<std::int32_t> ready = scored_.Ready(step_);
  const bool begun = fake_.samples().HasAny(step_);
  const InnerPace::Situation now{ready.empty() ? std::nullopt : std::optional<std::int64_t>(ready.front()),
                                 begun ? fake_.samples().Newest() : std::nullopt, scored_.taken(), free_updates_};
  if (record_->follows() ? record_->Over() : pace_.Over(now)) return FinishFreeStep();
  const auto next = record_->follows() ? record_->Next() : pace_.Next(now);
  if (!next) return false;
  const bool update = next->kind == PaceEvent::Kind::kUpdate;
  if (update ? now.newest < next->number : !std::ranges::binary_search(ready, next->number)) return false;
  if (update) {
    RunInnerUpdate(free_updates_++, next->number);
  } else {
    AnswerGradients({static_cast<std::int32_t>(next->number)});
  }
  record_->Did(*next);
  return true;
}

bool FakeScoreNode::FinishFreeStep() {
  if (!AlignIfDue()) return false;
  failpoint::Hit("fake_score.step");
  if (free_updates_ > 0) ReportInnerLoop();
  free_updates_ = 0;
  record_->FinishStep();
  FinishStep();
  return true;
}

// Of as many micro-batches as there are ranks.
void FakeScoreNode::AnswerGradients(const std::vector<std::int32_t>& indices) {
  const trace::Span span("gradient", {step_, indices.front()});
  std::vector<message::ScoredSample> round;
  std::vector<FakeScoreGroup::Scored> inputs;
  for (const std::int32_t index : indices) {
    const message::ScoredSample& scored = round.emplace_back(scored_.Take(step_, index));
    const message::Sample& sample = scored.sample;
    inputs.push_back({sample.ticket.index, ToTensor(sample.x_g), ToTensor(sample.x_s), ToTensor(sample.sigma),
                      ToTensor(scored.velocity), PromptsFromFrame(sample.prompts)});
  }
  const std::vector<FakeScore::Pair> results = fake_.Gradients(step_, inputs);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto& [gradient, terms] = results[i].generator;
    const message::Ticket ticket{step_, inputs[i].index};
    client_.Send(ToEnvelope(message::Gradient{ticket, psi_updates_, round[i].cache_hit, terms, ToFrame(gradient)}));
    paired_loss_ += results[i].inner_loss;
    if (!HasRollouts(experiment().inner.source))
      fake_.samples().AddScored(round[i].sample.ticket.step, ticket.index, {inputs[i].x_g, inputs[i].prompts});
  }
  CountWork();
}

// On samples up to those of step `newest`.
void FakeScoreNode::RunInnerUpdate(std::int64_t update, std::int64_t newest) {
  const bool paired = experiment().inner.source == InnerSource::kPaired;
  inner_.loss = paired ? std::exchange(paired_loss_, 0) : Accumulate(update, newest);
  const trace::Span span("inner optimizer", {step_});
  inner_.report = fake_.Update();
  ++psi_updates_;
}

// The gradients of an inner update; returns the sum of its losses.
double FakeScoreNode::Accumulate(std::int64_t update, std::int64_t newest) {
  double loss = 0;
  const std::int32_t ranks = fake_.round();
  for (std::int32_t from = 0; from < experiment().data.micro_batches; from += ranks) {
    const trace::Span span("inner forward and backward", {step_, from});
    std::vector<std::int32_t> round(static_cast<std::size_t>(ranks));
    std::iota(round.begin(), round.end(), from);
    for (const double of_rank : fake_.Accumulate(step_, update, round, newest)) loss += of_rank;
    CountWork();
  }
  return loss;
}

// False where it cannot be done yet.
bool FakeScoreNode::AlignIfDue() {
  if (experiment().objective.alignment == 0) return true;
  if (!student_.Complete(step_)) return false;
  const trace::Span span("align", {step_});
  fake_.Align(student_.Take(step_));
  CountWork();
  return true;
}

// Of the last update of the step.
void FakeScoreNode::ReportInnerLoop() {
  const double loss = inner_.loss / static_cast<double>(experiment().data.micro_batches);
  std::map<std::string, double> scalars = monitor_.Observe(step_, inner_.report, loss);
  scalars["fake_score_loss"] = loss;
  scalars["grad_norm/critic"] = inner_.report.gradient_norm;
  scalars["fake_score_learning_rate"] = inner_.report.learning_rate;
  scalars["inner_updates"] = static_cast<double>(psi_updates_);
  for (const auto& [name, value] : scalars) events_.Scalar(TagOf(name), step_, value);
  heartbeat_.Report(scalars);
}

void FakeScoreNode::StageCheckpointIfOrdered() {
  if (!orders_.Take(step_)) return;
  const trace::Span span("checkpoint", {step_});
  CheckpointOrders::Parts parts = StagedParts();
  Send(parts);
  orders_.Remember(std::move(parts));
}

CheckpointOrders::Parts FakeScoreNode::StagedParts() {
  const double work = fake_.CountedWork().ForwardEquivalents();
  if (!monitor_.healthy())
    return {{step_, StateFileName(Spell(Role::kFakeScore), kModelState), {}, 0, work, /*healthy=*/false}};
  const CheckpointStore store(RunFolder{node_.plan.topology.run.folder}.Checkpoints(), node_.identity.run_id);
  const std::filesystem::path staged = store.Stage(step_);
  if (failpoint::Fails("checkpoint.write")) ThrowErrno("cannot write", staged.string());
  const std::map<std::string, Digest> files = fake_.SaveState(staged);
  if (record_) record_->Sync();
  CheckpointOrders::Parts parts;
  for (const auto& [name, digest] : files)
    parts.push_back({step_, name, digest, static_cast<std::int64_t>(files.size()), work});
  return parts;
}

void FakeScoreNode::Send(const CheckpointOrders::Parts& parts) {
  for (const message::CheckpointPart& part : parts) client_.Send(ToEnvelope(part));
}

}  // namespace sgmd
