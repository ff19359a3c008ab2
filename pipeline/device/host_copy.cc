#include "pipeline/device/host_copy.h"

#include <ATen/ATen.h>

namespace sgmd {

at::Tensor ToHost(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach();
  if (values.device().is_cpu()) return values.contiguous();
  const at::TensorOptions pinned = at::TensorOptions(values.scalar_type()).pinned_memory(true);
  return at::empty(values.sizes(), pinned).copy_(values);
}

}  // namespace sgmd
