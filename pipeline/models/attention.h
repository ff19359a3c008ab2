// Attention, and what is kept of it where blocks run again in the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace sgmd {

/// What attentions gave in a pass, in the order of the calls: their outputs and the statistics that their backward
/// passes take. N D elements of the compute dtype and N H of float32 a block and sample.
struct KeptAttention {
  std::vector<std::vector<at::Tensor>> results;
};

/// While it lives, the attentions of this thread that may be kept add their results to `kept`, or where `kept` has
/// some, take them from it in order: in a pass that is run again with the same queries, keys and values, attention is
/// then not computed anew, and the gradients have the same bits. One at a time in a thread.
class KeepingAttention {
 public:
  explicit KeepingAttention(KeptAttention& kept);
  ~KeepingAttention();
  KeepingAttention(const KeepingAttention&) = delete;
  KeepingAttention& operator=(const KeepingAttention&) = delete;

  std::vector<at::Tensor>* Next();  // results to fill or to take

 private:
  KeptAttention& kept_;
  const bool takes_;
  std::size_t next_ = 0;
};

/// softmax(q k^T / sqrt(d)) v of queries [B, H, N, d] over keys and values [B, H, M, d], all of one dtype;
/// differentiable. LibTorch's scaled_dot_product_attention, and bit for bit its results, but for deterministic runs in
/// bfloat16 on a GPU where cuDNN's forward pass takes the place of FlashAttention-2's (cudnn_attention.h). `keep`:
/// whether KeepingAttention may keep it; it does where LibTorch would take its flash attention, which on a GPU is what
/// deterministic runs in bfloat16 take.
at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool keep);

}  // namespace sgmd
