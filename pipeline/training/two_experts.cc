#include "pipeline/training/two_experts.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "common/error/error.h"
#include "pipeline/models/wan_experts.h"

namespace sgmd {

const TrainedModel& TwoExperts::AnyTrained(const std::vector<One>& experts) {
  return *std::ranges::find_if(experts, [](const One& one) { return one.trained != nullptr; })->trained;
}

TwoExperts::TwoExperts(std::vector<One> experts)
    : TrainedModel(AnyTrained(experts).adapted(), AnyTrained(experts).recomputes()),
      experts_(std::move(experts)),
      used_(experts_.size()) {
  for (const auto& [expert, trained, frozen] : experts_) {
    min_sigmas_.push_back(expert.min_sigma);
    if (trained) trained_.insert(trained_.end(), trained->trained().begin(), trained->trained().end());
    if ((trained && trained->config() != config()) || (frozen && frozen->config() != config()))
      throw Error("the two experts have other sizes than each other", expert.model.string());
  }
}

at::Tensor TwoExperts::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  const std::size_t number = ExpertAt(min_sigmas_, sigma);
  const One& one = experts_[number];
  if (one.trained == nullptr && one.frozen == nullptr)
    throw Error("a noise level of the expert that is not trained", one.expert.model.string());
  if (one.frozen != nullptr) return one.frozen->Forward(x, sigma, condition);
  if (requires_grad_ && c10::GradMode::is_enabled()) used_[number] = true;
  return one.trained->Forward(x, sigma, condition);
}

void TwoExperts::SkipForward(double sigma) const {
  const One& one = experts_[ExpertAt(min_sigmas_, sigma)];
  if (one.trained != nullptr) one.trained->SkipForward(sigma);
  if (one.frozen != nullptr) one.frozen->SkipForward();
}

void TwoExperts::SetRequiresGrad(bool requires_grad) {
  requires_grad_ = requires_grad;
  for (const One& one : experts_) {
    if (one.trained != nullptr) one.trained->SetRequiresGrad(requires_grad);
  }
}

ParameterPlaces TwoExperts::Places() const {
  ParameterPlaces places;
  for (const One& one : experts_) {
    if (one.trained != nullptr) places.merge(one.trained->Places());
  }
  return places;
}

std::vector<TrainedPart> TwoExperts::Parts() const {
  std::vector<TrainedPart> parts;
  for (const One& one : experts_) {
    if (one.trained != nullptr) parts.push_back(one.trained->Parts().front());
  }
  return parts;
}

std::vector<bool> TwoExperts::TakeUsed() {
  std::vector<bool> used;
  for (std::size_t i = 0; i < experts_.size(); ++i) {
    if (experts_[i].trained != nullptr) used.push_back(used_[i]);
  }
  used_.assign(experts_.size(), false);
  return used;
}

void TwoExperts::ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const {
  auto first = tensors.begin();
  for (const One& one : experts_) {
    if (one.trained == nullptr) continue;
    const auto last = first + static_cast<std::ptrdiff_t>(one.trained->trained().size());
    one.trained->ForEachWhole({first, last}, visit);
    first = last;
  }
}

}  // namespace sgmd
