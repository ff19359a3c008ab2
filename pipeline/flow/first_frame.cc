#include "pipeline/flow/first_frame.h"

#include <ATen/ATen.h>

namespace sgmd {

at::Tensor FirstFrameCondition(const at::Tensor& latents) {
  const at::Tensor mask =
      at::zeros({kFirstFrameMaskChannels, latents.size(1), latents.size(2), latents.size(3)}, latents.options());
  mask.select(1, 0).fill_(1);
  return at::cat({mask, latents});
}

}  // namespace sgmd
