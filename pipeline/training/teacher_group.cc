#include "pipeline/training/teacher_group.h"

#include <ATen/ATen.h>

#include "pipeline/data/prompt_bank.h"

namespace sgmd {

std::vector<at::Tensor> TeacherGroup::Answer(What what, const std::vector<Asked>& asked) {
  const auto count = static_cast<std::int64_t>(asked.size());
  std::vector<at::Tensor> sigmas;
  for (const Asked& one : asked) sigmas.push_back(one.sigma);
  const std::int64_t experts = what == kScore ? role_.Asked(sigmas) : 0;
  orders_.Give({what, {count, experts}, {}, {}});
  std::vector<Asked> round = asked;
  round.resize(this->round(), asked.front());  // ranks without a micro-batch get one that they do not look at
  return AnswerOwn(what, count, experts, round);
}

std::vector<at::Tensor> TeacherGroup::AnswerOwn(std::int64_t what, std::int64_t count, std::int64_t experts,
                                                const std::vector<Asked>& round) {
  const std::vector<std::int64_t> shape = LatentShape(experiment_);
  std::vector<at::Tensor> xs, sigmas, prompts;
  for (const Asked& asked : round) {
    xs.push_back(asked.x);
    sigmas.push_back(asked.sigma);
    prompts.push_back(PromptsToTensor(asked.prompts));
  }
  const at::Tensor x = orders_.Scatter(xs, at::kFloat, shape);
  const at::Tensor sigma = what == kScore ? orders_.Scatter(sigmas, at::kFloat, {shape.front()}) : at::Tensor();
  const std::vector<Digest> own_prompts = PromptsFromTensor(
      orders_.Scatter(prompts, at::kByte, {shape.front(), static_cast<std::int64_t>(sizeof(Digest))}));
  at::Tensor own;
  if (orders_.place() < count) {
    own = what == kScore ? role_.Score(x, sigma, own_prompts, experts) : role_.Anchor(x, own_prompts);
  } else {
    what == kScore ? role_.SkipScore(experts) : role_.SkipAnchor();
    own = at::empty(shape, what == kScore ? role_.scores() : at::kFloat);
  }
  std::vector<at::Tensor> answers = orders_.Gather(own);
  if (!answers.empty()) answers.resize(static_cast<std::size_t>(count));
  return answers;
}

void TeacherGroup::Follow() {
  for (Order order = orders_.Take(); order.what != kEnd; order = orders_.Take())
    AnswerOwn(order.what, order.numbers[0], order.numbers[1], {});
}

}  // namespace sgmd
