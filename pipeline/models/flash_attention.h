// Flash attention as LibTorch calls it, with its results in the open.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace sgmd {

/// Queries [B, H, N, d], keys and values [B, H, M, d], of one dtype and device.
struct AttentionInputs {
  at::Tensor q, k, v;
};

/// What attention gives: `out` [B, H, N, d] and `sums` [B, H, N] float32, the logarithm of each row's sum of
/// exponentials, from which the backward pass makes the weights again.
struct AttentionResult {
  at::Tensor out, sums;
};

/// Not differentiable. Throws c10::Error where the device has no flash attention for the dtype or the width of heads:
/// a GPU takes heads of at most 256 in multiples of 8, in float16 and bfloat16 (FlashAttention-2).
AttentionResult FlashForward(const AttentionInputs& in);

/// The gradients of q, k and v for the gradient of `out`, from `result` of FlashForward or of another kernel that gives
/// the same. In deterministic runs it adds in a fixed order.
std::array<at::Tensor, 3> FlashBackward(const at::Tensor& gradient, const AttentionInputs& in,
                                        const AttentionResult& result);

}  // namespace sgmd
