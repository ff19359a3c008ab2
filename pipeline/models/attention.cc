#include "pipeline/models/attention.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

namespace sgmd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local KeepingAttention* keeping = nullptr;

// Flash attention as LibTorch calls it, with its results in the open: output, log-sum-exp, and on a GPU what would make
// dropout repeatable, which its backward pass takes although there is none.
variable_list Compute(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (q.is_cpu()) {
    auto [out, sums] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v);
    return {out, sums};
  }
  const auto all = at::_scaled_dot_product_flash_attention(q, k, v);
  return {std::get<0>(all), std::get<1>(all), std::get<6>(all), std::get<7>(all)};
}

struct FlashAttention : torch::autograd::Function<FlashAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    variable_list* kept = keeping->Next();
    if (kept->empty()) *kept = Compute(q, k, v);
    // Not the kept tensor itself, which is to stay without a graph.
    const at::Tensor out = kept->front().variable_data();
    variable_list saved{q, k, v, out};
    saved.insert(saved.end(), kept->begin() + 1, kept->end());
    context->save_for_backward(saved);
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    const at::Tensor &q = s[0], &k = s[1], &v = s[2], &out = s[3], &sums = s[4];
    std::tuple<at::Tensor, at::Tensor, at::Tensor> found;
    if (q.is_cpu()) {
      found = at::_scaled_dot_product_flash_attention_for_cpu_backward(gradients[0], q, k, v, out, sums,
                                                                       /*dropout_p=*/0.0, /*is_causal=*/false);
    } else {
      found = at::_scaled_dot_product_flash_attention_backward(gradients[0], q, k, v, out, sums, {}, {}, q.size(2),
                                                               k.size(2), /*dropout_p=*/0.0, /*is_causal=*/false, s[5],
                                                               s[6]);
    }
    return {std::get<0>(found), std::get<1>(found), std::get<2>(found)};
  }
};

bool TakesFlash(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  constexpr std::int64_t kPadded = 8;  // on a GPU LibTorch pads heads to a multiple of it
  if (!q.is_cpu() && q.size(-1) % kPadded != 0) return false;
  return at::_fused_sdp_choice(q, k, v) == static_cast<std::int64_t>(at::SDPBackend::flash_attention);
}

}  // namespace

KeepingAttention::KeepingAttention(KeptAttention& kept) : kept_(kept), takes_(!kept.results.empty()) {
  TORCH_INTERNAL_ASSERT(keeping == nullptr);
  keeping = this;
}

KeepingAttention::~KeepingAttention() { keeping = nullptr; }

std::vector<at::Tensor>* KeepingAttention::Next() {
  if (!takes_) return &kept_.results.emplace_back();
  TORCH_INTERNAL_ASSERT(next_ < kept_.results.size(), "a pass that was run again has more attentions than before");
  return &kept_.results[next_++];
}

at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool keep) {
  if (keep && keeping != nullptr && TakesFlash(q, k, v)) return FlashAttention::apply(q, k, v);
  return at::scaled_dot_product_attention(q, k, v);  // scale 1/sqrt(head)
}

}  // namespace sgmd
