#include "pipeline/models/attention.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include "pipeline/models/cudnn_attention.h"

namespace sgmd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local KeepingAttention* keeping = nullptr;

struct FlashAttention : torch::autograd::Function<FlashAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            bool keep) {
    const AttentionInputs in{q, k, v};
    variable_list computed, *results = keep ? keeping->Next() : &computed;
    if (results->empty()) {
      const auto [out, sums] = CudnnAttends(in) ? CudnnForward(in) : FlashForward(in);
      *results = {out, sums};
    }
    // Not the kept tensor itself, which is to stay without a graph.
    const at::Tensor out = results->front().variable_data();
    context->save_for_backward({q, k, v, out, results->back()});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    const auto [q, k, v] = FlashBackward(gradients[0], {s[0], s[1], s[2]}, {s[3], s[4]});
    return {q, k, v, at::Tensor()};
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
  keep = keep && keeping != nullptr;
  if ((keep || CudnnAttends({q, k, v})) && TakesFlash(q, k, v)) return FlashAttention::apply(q, k, v, keep);
  return at::scaled_dot_product_attention(q, k, v);  // scale 1/sqrt(head)
}

}  // namespace sgmd
