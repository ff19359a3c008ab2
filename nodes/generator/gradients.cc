#include "nodes/generator/gradients.h"

#include "common/error/error.h"

namespace sgmd {

void Gradients::Accept(message::Gradient gradient) {
  const message::Ticket ticket = gradient.ticket;
  const auto it = in_flight_.find(ticket);
  if (it == in_flight_.end()) return;
  if (at::IntArrayRef(gradient.gradient.view.shape) != it->second.exit.x.sizes()) {
    throw Error(StrCat("the gradient of step ", ticket.step, ", micro-batch ", ticket.index,
                       " does not have the shape of its sample"));
  }
  arrived_.try_emplace(ticket, std::move(gradient));
}

Gradients::Arrived Gradients::Take(const message::Ticket& ticket) {
  return {std::move(in_flight_.extract(ticket).mapped()), std::move(arrived_.extract(ticket).mapped())};
}

std::vector<std::int32_t> Gradients::Of(std::int64_t step) const {
  std::vector<std::int32_t> indices;
  for (auto it = arrived_.lower_bound({step, 0}); it != arrived_.end() && it->first.step == step; ++it)
    indices.push_back(it->first.index);
  return indices;
}

void Gradients::Forget(std::int64_t step) {
  std::erase_if(in_flight_, [&](const auto& entry) { return entry.first.step == step; });
  std::erase_if(arrived_, [&](const auto& entry) { return entry.first.step == step; });
}

}  // namespace sgmd
