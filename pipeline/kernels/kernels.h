// The row operations of a Wan block (wan_facts §1.3) on tensors: norms, modulation, gates, rotations and GELU, each as
// one pass over its rows forward and one backward, which keep their inputs and a mean and deviation a row and nothing
// else.
//
// Each function takes which code computes it. Kernels::kFused calls the operators of the library "sgmd" through
// PyTorch's dispatcher, which has implementations for the CPU; it falls back to the reference where the dtype is
// neither float32 nor bfloat16 and on a device that has none. Kernels::kReference is the chain of ATen's operations
// with the same rounding: a row's arithmetic is float32 at least, results have the dtype of x.
//
// Common to all: x is the residual stream or what a Linear gives, [B, N, D] of any strides; what is "per sample" is
// float32 [B, 1, D]. Differentiable once in every tensor but the table of rotations. A row of a result depends on that
// row alone, and sums over rows (gradients of what is per sample, and of weights) are the same bits for any number of
// threads. On the CPU the bits depend on no instruction set. Throws Error on shapes and dtypes that do not fit.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

#include "common/config/experiment.h"

namespace sgmd {

/// bfloat16 and float16 as float32, others as they are.
at::Tensor Wide(const at::Tensor& x);

/// layer_norm(x) (1 + scale) + shift, with scale and shift per sample.
at::Tensor AdaptiveNorm(Kernels kernels, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
                        double eps);

/// The stream s = x + y gate, rounded to the dtype of x, and its norm. Gate per sample, or undefined: 1. Scale and
/// shift per sample as in AdaptiveNorm, or float32 [D]: layer_norm(s) scale + shift.
struct StreamAndNorm {
  at::Tensor stream, norm;
};
StreamAndNorm AddThenNorm(Kernels kernels, const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate,
                          const at::Tensor& scale, const at::Tensor& shift, double eps);

/// x + y gate, rounded to the dtype of x; gate per sample.
at::Tensor AddGated(Kernels kernels, const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate);

/// rotate(x / rms(x) weight): the root mean square over D, weight [D] of any floating dtype; then the interleaved pairs
/// of each head turn by `table`, complex [N, head_dim / 2]; undefined: they do not.
at::Tensor RmsNormThenRotate(Kernels kernels, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& table,
                             double eps);

/// GELU in its tanh form, of any shape.
at::Tensor Gelu(Kernels kernels, const at::Tensor& x);

/// Interleaved pairs (x[2j], x[2j+1]) of `x` [B, N, H, head_dim] times `table` [N, head_dim/2].
at::Tensor ApplyRope(const at::Tensor& x, const at::Tensor& table);

}  // namespace sgmd
