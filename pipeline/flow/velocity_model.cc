#include "pipeline/flow/velocity_model.h"

#include <ATen/ATen.h>

namespace sgmd {

Conditioning Conditioning::To(at::Device device) const { return {text.defined() ? text.to(device) : text}; }

Conditioning Concatenate(const Conditioning& first, const Conditioning& second) {
  return {at::cat({first.text, second.text})};
}

}  // namespace sgmd
