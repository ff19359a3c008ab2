#include "pipeline/flow/first_frame.h"

#include <ATen/ATen.h>

namespace sgmd {

at::Tensor FirstFrameCondition(const at::Tensor& latents) {
  std::vector<std::int64_t> shape = latents.sizes().vec();
  shape[1] = kFirstFrameMaskChannels;
  const at::Tensor mask = at::zeros(shape, latents.options());
  mask.select(2, 0).fill_(1);
  return at::cat({mask, latents}, 1);
}

at::Tensor WithFirstFrame(const at::Tensor& x, const at::Tensor& first) {
  return at::cat({first.to(x.options()), x.slice(2, 1)}, 2);
}

at::Tensor LeadingTo(const at::Tensor& first, const at::Tensor& x, const at::Tensor& sigma,
                     const at::Tensor& velocity) {
  constexpr double kSmallest = 1e-6;
  const at::Tensor level = sigma.to(velocity.options()).clamp_min(kSmallest).view({-1, 1, 1, 1, 1});
  const at::Tensor off = x.slice(2, 0, 1).to(velocity.options()) - first.to(velocity.options());
  return at::cat({off / level, velocity.slice(2, 1)}, 2);
}

}  // namespace sgmd
