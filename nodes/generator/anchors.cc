#include "nodes/generator/anchors.h"

#include "nodes/ring_node.h"

namespace sgmd {

void Anchors::Ask(std::int64_t step) {
  if (experiment_.diversity.weight == 0 || step <= asked_up_to_ || step >= experiment_.steps) return;
  asked_up_to_ = step;
  for (std::int64_t index = 0; index < experiment_.data.micro_batches; ++index) {
    AnchorPlan plan = PlanAnchor(experiment_, bank_, step, index);
    Envelope request;
    request.kind = wire::Kind::AnchorRequest;
    request.step = step;
    request.index = static_cast<std::int32_t>(index);
    request.tensors = {ToFrame("noise", plan.noise), ToFrame("prompts", PromptsToTensor(plan.prompts))};
    client_.Send(std::move(request));
    asked_[{step, index}] = std::move(plan);
  }
}

void Anchors::Accept(const Envelope& answer) {
  const Ticket ticket{answer.step, answer.index};
  if (auto asked = asked_.extract(ticket)) arrived_[ticket] = {std::move(asked.mapped()), answer};
}

Anchors::Anchor Anchors::Take(std::int64_t step, std::int64_t index) {
  return std::move(arrived_.extract({step, index}).mapped());
}

}  // namespace sgmd
