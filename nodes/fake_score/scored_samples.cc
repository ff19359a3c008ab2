#include "nodes/fake_score/scored_samples.h"

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {
namespace {

[[noreturn]] void Fail(const char* what, const message::Ticket& ticket, const char* why) {
  throw Error(StrCat("the ", what, " of step ", ticket.step, ", micro-batch ", ticket.index, " ", why));
}

}  // namespace

void ScoredSamples::Add(message::ScoredSample scored) {
  const message::Ticket ticket = scored.sample.ticket;
  if (ticket.index < 0 || ticket.index >= micro_batches_) Fail("scored sample", ticket, "is not of the experiment");
  if (scored.sample.x_g.view.shape != shape_)
    Fail("scored sample", ticket, "does not have the shape of the experiment's latents");
  if (!AllFinite(scored.velocity.view)) Fail("score", ticket, "holds an infinite value or no number");
  if (ticket.step <= finished_ || !seen_.insert(ticket).second) return;
  waiting_[ticket.step].push_back(std::move(scored));
}

std::vector<message::ScoredSample> ScoredSamples::Take(std::int64_t step) {
  auto ready = waiting_.extract(step);
  return ready ? std::move(ready.mapped()) : std::vector<message::ScoredSample>();
}

void ScoredSamples::Finish(std::int64_t step) {
  finished_ = step;
  std::erase_if(seen_, [&](const message::Ticket& ticket) { return ticket.step <= step; });
}

void RequireWhole(const message::InnerSample& sample, const std::vector<std::int64_t>& shape) {
  if (sample.x_g.view.shape != shape)
    Fail("inner sample", sample.ticket, "does not have the shape of the experiment's latents");
  if (!AllFinite(sample.x_g.view)) Fail("inner sample", sample.ticket, "holds an infinite value or no number");
}

}  // namespace sgmd
