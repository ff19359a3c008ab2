#include "nodes/generator/anchors.h"

#include "common/error/error.h"
#include "nodes/ring/frames.h"

namespace sgmd {

void Anchors::Ask(std::int64_t step) {
  if (experiment_.diversity.weight == 0 || step <= asked_up_to_ || step >= experiment_.steps) return;
  asked_up_to_ = step;
  for (std::int32_t index = 0; index < experiment_.data.micro_batches; ++index) {
    AnchorPlan plan = PlanAnchor(experiment_, bank_, step, index);
    client_.Send(ToEnvelope(message::AnchorRequest{{step, index}, ToFrame(plan.noise), PromptsToFrame(plan.prompts)}));
    asked_[{step, index}] = std::move(plan);
  }
}

void Anchors::Accept(message::ServedAnchor answer) {
  const message::Ticket ticket = answer.ticket;
  auto asked = asked_.extract(ticket);
  if (!asked) return;
  if (at::IntArrayRef(answer.x_a.view.shape) != asked.mapped().noise.sizes()) {
    throw Error(StrCat("the anchor of step ", ticket.step, ", micro-batch ", ticket.index,
                       " does not have the shape of its noise"));
  }
  arrived_[ticket] = {std::move(asked.mapped()), std::move(answer)};
}

Anchors::Arrived Anchors::Take(const message::Ticket& ticket) { return std::move(arrived_.extract(ticket).mapped()); }

}  // namespace sgmd
