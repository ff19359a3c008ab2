#include "pipeline/kernels/reference.h"

#include <ATen/ATen.h>

namespace sgmd {

at::Tensor Wide(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf ? x.to(at::kFloat) : x;
}

at::Tensor ApplyRope(const at::Tensor& x, const at::Tensor& table) {
  const auto shape = x.sizes();
  const at::Tensor pairs = at::view_as_complex(x.reshape({shape[0], shape[1], shape[2], -1, 2}));
  return at::view_as_real(pairs * table.unsqueeze(1)).flatten(-2);
}

namespace reference {

at::Tensor AdaptiveNorm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift, double eps) {
  const at::Tensor norm = at::layer_norm(Wide(x), {x.size(-1)}, {}, {}, eps);
  return at::addcmul(shift, norm, scale + 1).to(x.scalar_type());
}

StreamAndNorm AddThenNorm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate, const at::Tensor& scale,
                          const at::Tensor& shift, double eps) {
  const at::Tensor stream = gate.defined() ? AddGated(x, y, gate) : x + y;
  if (scale.dim() != 1) return {stream, AdaptiveNorm(stream, scale, shift, eps)};
  return {stream, at::layer_norm(Wide(stream), {x.size(-1)}, scale, shift, eps).to(x.scalar_type())};
}

at::Tensor AddGated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate) {
  return at::addcmul(Wide(x), Wide(y), gate).to(x.scalar_type());
}

at::Tensor RmsNormThenRotate(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& table, double eps) {
  const at::Tensor wide = Wide(x);
  at::Tensor norm = wide * at::rsqrt(wide.square().mean(-1, true) + eps) * Wide(weight);
  if (table.defined()) {
    const std::int64_t head = 2 * table.size(1);
    norm = ApplyRope(norm.view({x.size(0), x.size(1), x.size(2) / head, head}), table).flatten(2);
  }
  return norm.to(x.scalar_type());
}

at::Tensor Gelu(const at::Tensor& x) { return at::gelu(x, "tanh"); }

}  // namespace reference
}  // namespace sgmd
