#include "pipeline/models/flash_attention.h"

#include <ATen/ATen.h>

namespace sgmd {

AttentionResult FlashForward(const AttentionInputs& in) {
  if (in.q.is_cpu()) {
    const auto [out, sums] = at::_scaled_dot_product_flash_attention_for_cpu(in.q, in.k, in.v);
    return {out, sums};
  }
  const auto all = at::_scaled_dot_product_flash_attention(in.q, in.k, in.v);
  return {std::get<0>(all), std::get<1>(all)};
}

std::array<at::Tensor, 3> FlashBackward(const at::Tensor& gradient, const AttentionInputs& in,
                                        const AttentionResult& result) {
  const auto list = [](const auto& found) {
    return std::array{std::get<0>(found), std::get<1>(found), std::get<2>(found)};
  };
  if (in.q.is_cpu()) {
    return list(at::_scaled_dot_product_flash_attention_for_cpu_backward(gradient, in.q, in.k, in.v, result.out,
                                                                         result.sums, /*dropout_p=*/0.0,
                                                                         /*is_causal=*/false));
  }
  // What would make dropout repeatable is asked for, and not read where there is none.
  const at::Tensor unread = at::empty({2}, in.q.options().dtype(at::kLong));
  return list(at::_scaled_dot_product_flash_attention_backward(gradient, in.q, in.k, in.v, result.out, result.sums, {},
                                                               {}, in.q.size(2), in.k.size(2), /*dropout_p=*/0.0,
                                                               /*is_causal=*/false, unread, unread));
}

}  // namespace sgmd
