// One block of the Wan transformer (wan_facts §1.3, steps 5 and 6), as plain structures of tensors and functions of
// them.
//
// Precision: the residual stream has the compute dtype, which is that of the tokens given. Linears and attention run in
// it, with weights cast at their use, so that gradients land in the dtype in which the weights are kept. Norms,
// modulation and rotations are float32 at least, and the stream is rounded after each addition (the semantics of
// diffusers). Where the compute dtype is that of the parameters no cast does anything.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "pipeline/kernels/kernels.h"
#include "pipeline/models/token_share.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

struct WanLinear {
  at::Tensor weight, bias;        // [out, in], [out]
  at::Tensor lora_down, lora_up;  // adapter [r, in], [out, r]; undefined where there is none
  double lora_scale = 0;          // alpha / r

  /// W x + b, plus lora_scale * up (down x) with an adapter; in the dtype of x. The adapter's product is added by the
  /// matrix product itself, which rounds once.
  at::Tensor operator()(const at::Tensor& x) const;
};

struct WanAttention {
  WanLinear q, k, v, o;
  at::Tensor norm_q, norm_k;  // [D]
  // Keys and values of CLIP tokens, of the cross-attention of a model that takes them; else undefined.
  WanLinear k_img, v_img;
  at::Tensor norm_k_img;  // [D]
};

struct WanBlock {
  at::Tensor modulation;  // [1, 6, D]
  WanAttention self_attn, cross_attn;
  at::Tensor norm3_weight, norm3_bias;  // [D]
  WanLinear ffn_in, ffn_out;

  /// The Linears that adapters may be on, under their original names in the block, such as "self_attn.q" and "ffn.0",
  /// in the order of wan_facts §1.2. Those of CLIP tokens are not: no public recipe adapts them.
  std::vector<std::pair<std::string, WanLinear*>> Linears();
  /// Every tensor of the block, adapters too.
  std::vector<at::Tensor> Tensors() const;
};

/// What a block takes beside its parameters. Text and CLIP tokens are given once for the keys and once for the values,
/// so that a recomputed block can return both gradients apart and they are summed in the order of a block that is not
/// recomputed.
struct WanBlockInputs {
  at::Tensor x;                               // residual stream [B, N, D]
  at::Tensor e0;                              // time modulation [B, 6, D]; with held tokens theirs first: [B, 12, D]
  at::Tensor text_value, text_key;            // embedded text [B, text_len, D], compute dtype
  at::Tensor clip_value = {}, clip_key = {};  // embedded CLIP tokens [B, 257, D] likewise, or undefined
  std::int64_t held = 0;                      // tokens of a held first frame, which come first of all tokens

  /// The tensors that are defined, in this order: four, or six with CLIP tokens; and back.
  std::vector<at::Tensor> List() const;
  static WanBlockInputs Of(const std::vector<at::Tensor>& list, std::int64_t held);
};

/// The residual stream after the block, [B, N, D]. `rope` complex [N, head_dim/2]. `kernels` compute what is no matrix
/// product and no attention. With `share` the stream has this rank's tokens alone, `rope` all.
at::Tensor RunBlock(const WanConfig& config, const WanBlock& block, const WanBlockInputs& inputs,
                    const at::Tensor& rope, Kernels kernels, const TokenShare* share = nullptr);

/// The same value and, bit for bit, the same gradients, but the graph keeps only the inputs, and with `keep_attention`
/// what self-attention gave: the rest of the block runs again in the backward pass. Without gradients to record it is
/// RunBlock.
at::Tensor RunBlockCheckpointed(const WanConfig& config, const WanBlock& block, const WanBlockInputs& inputs,
                                const at::Tensor& rope, Kernels kernels, bool keep_attention = false);

}  // namespace sgmd
