#include "pipeline/flow/velocity_model.h"

#include <ATen/ATen.h>

namespace sgmd {
namespace {

at::Tensor Moved(const at::Tensor& tensor, at::Device device) { return tensor.defined() ? tensor.to(device) : tensor; }

at::Tensor Both(const at::Tensor& first, const at::Tensor& second) {
  return first.defined() ? at::cat({first, second}) : first;
}

}  // namespace

Conditioning Conditioning::To(at::Device device) const {
  return {Moved(text, device), Moved(image, device), Moved(clip, device)};
}

Conditioning Concatenate(const Conditioning& first, const Conditioning& second) {
  return {at::cat({first.text, second.text}), Both(first.image, second.image), Both(first.clip, second.clip)};
}

}  // namespace sgmd
