#include "nodes/fake_score/scored_samples.h"

#include "common/error/error.h"

namespace sgmd {
namespace {

[[noreturn]] void Fail(const char* what, const message::Ticket& ticket, const char* why) {
  throw Error(StrCat("the ", what, " of step ", ticket.step, ", micro-batch ", ticket.index, " ", why));
}

}  // namespace

ScoredSamples::ScoredSamples(const Experiment& experiment) : experiment_(experiment), shape_(LatentShape(experiment)) {}

void ScoredSamples::Add(message::ScoredSample scored) {
  const message::Ticket ticket = scored.sample.ticket;
  if (ticket.index < 0 || ticket.index >= experiment_.data.micro_batches || !RollsOut(experiment_, ticket.step))
    Fail("scored sample", ticket, "is not of the experiment");
  if (scored.sample.x_g.view.shape != shape_)
    Fail("scored sample", ticket, "does not have the shape of the experiment's latents");
  if (!AllFinite(scored.velocity.view)) Fail("score", ticket, "holds an infinite value or no number");
  if (ticket.step < RolloutStepOf(experiment_, finished_ + 1)) return;
  scored_.try_emplace(ticket, std::move(scored));
}

std::vector<std::int32_t> ScoredSamples::Ready(std::int64_t step) const {
  std::vector<std::int32_t> ready;
  const std::int64_t rolled_out = RolloutStepOf(experiment_, step);
  for (std::int32_t index = 0; index < experiment_.data.micro_batches; ++index) {
    const bool here = scored_.contains({rolled_out, index});
    if (!here && experiment_.inner.source == InnerSource::kPaired) break;
    if (here && !taken_.contains(index)) ready.push_back(index);
  }
  return ready;
}

const message::ScoredSample& ScoredSamples::Take(std::int64_t step, std::int32_t index) {
  taken_.insert(index);
  return scored_.at({RolloutStepOf(experiment_, step), index});
}

void ScoredSamples::Finish(std::int64_t step) {
  finished_ = step;
  taken_.clear();
  std::erase_if(scored_, [&](const auto& entry) { return entry.first.step < RolloutStepOf(experiment_, step + 1); });
}

void RequireWhole(const message::InnerSample& sample, const std::vector<std::int64_t>& shape) {
  if (sample.x_g.view.shape != shape)
    Fail("inner sample", sample.ticket, "does not have the shape of the experiment's latents");
  if (!AllFinite(sample.x_g.view)) Fail("inner sample", sample.ticket, "holds an infinite value or no number");
}

}  // namespace sgmd
