#include "pipeline/models/wan_block.h"

#include <ATen/ATen.h>

#include <utility>

#include "pipeline/models/attention.h"
#include "pipeline/models/checkpointing.h"

namespace sgmd {
namespace {

at::Tensor OwnRows(const at::Tensor& rows, const TokenShare* share) {
  if (share == nullptr) return rows;
  const auto [first, count] = share->RangeOf(share->rank(), rows.size(0));
  return rows.narrow(0, first, count);
}

at::Tensor Attend(const WanConfig& config, const WanAttention& a, const at::Tensor& x, const at::Tensor& key_context,
                  const at::Tensor& value_context, const at::Tensor& rope, Kernels kernels, const TokenShare* share) {
  const auto heads = [&](const at::Tensor& t) {
    return t.view({t.size(0), t.size(1), config.num_heads, config.head_dim()});
  };
  const at::Tensor own = rope.defined() ? OwnRows(rope, share) : rope;
  at::Tensor q = heads(RmsNormThenRotate(kernels, a.q(x), a.norm_q, own, config.eps));
  at::Tensor k = heads(RmsNormThenRotate(kernels, a.k(key_context), a.norm_k, own, config.eps));
  at::Tensor v = heads(a.v(value_context));
  // Queries of all tokens meet keys of all tokens, head by head; keys of the text are on every rank.
  const bool exchanged = share != nullptr && rope.defined();
  if (exchanged) {
    for (at::Tensor* t : {&q, &k, &v}) *t = share->ByHeads(*t, rope.size(0));
  }
  at::Tensor out =
      Attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), /*keep=*/rope.defined()).transpose(1, 2);
  if (exchanged) out = share->ByTokens(out);
  return a.o(out.flatten(2));
}

}  // namespace

at::Tensor WanLinear::operator()(const at::Tensor& x) const {
  const at::ScalarType compute = x.scalar_type();
  if (!lora_down.defined()) return at::linear(x, weight.to(compute), bias.to(compute));
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  at::Tensor y = at::linear(rows, weight.to(compute), bias.to(compute));
  y.addmm_(at::linear(rows, lora_down.to(compute)), lora_up.to(compute).t(), 1, lora_scale);
  auto shape = x.sizes().vec();
  shape.back() = y.size(1);
  return y.view(shape);
}

std::vector<std::pair<std::string, WanLinear*>> WanBlock::Linears() {
  return {{"self_attn.q", &self_attn.q},
          {"self_attn.k", &self_attn.k},
          {"self_attn.v", &self_attn.v},
          {"self_attn.o", &self_attn.o},
          {"cross_attn.q", &cross_attn.q},
          {"cross_attn.k", &cross_attn.k},
          {"cross_attn.v", &cross_attn.v},
          {"cross_attn.o", &cross_attn.o},
          {"ffn.0", &ffn_in},
          {"ffn.2", &ffn_out}};
}

std::vector<at::Tensor> WanBlock::Tensors() const {
  std::vector<at::Tensor> tensors{modulation, norm3_weight, norm3_bias};
  for (const WanAttention* a : {&self_attn, &cross_attn}) tensors.insert(tensors.end(), {a->norm_q, a->norm_k});
  for (const auto& [name, linear] : WanBlock(*this).Linears()) {
    tensors.insert(tensors.end(), {linear->weight, linear->bias});
    if (linear->lora_down.defined()) tensors.insert(tensors.end(), {linear->lora_down, linear->lora_up});
  }
  return tensors;
}

at::Tensor RunBlock(const WanConfig& config, const WanBlock& block, const WanBlockInputs& in, const at::Tensor& rope,
                    Kernels kernels, const TokenShare* share) {
  // 0 shift_sa, 1 scale_sa, 2 gate_sa, 3 shift_ff, 4 scale_ff, 5 gate_ff; each [B, 1, D]
  const auto m = (block.modulation + Wide(in.e0)).chunk(6, 1);
  // Each tensor is let go when it has been read: without a graph little is alive at once.
  at::Tensor y = AdaptiveNorm(kernels, in.x, m[1], m[0], config.eps);
  y = Attend(config, block.self_attn, y, y, y, rope, kernels, share);
  StreamAndNorm x =
      AddThenNorm(kernels, in.x, std::exchange(y, {}), m[2], block.norm3_weight, block.norm3_bias, config.eps);
  y = Attend(config, block.cross_attn, std::exchange(x.norm, {}), in.text_key, in.text_value, {}, kernels, share);
  x = AddThenNorm(kernels, x.stream, std::exchange(y, {}), {}, m[4], m[3], config.eps);
  y = block.ffn_in(std::exchange(x.norm, {}));
  y = Gelu(kernels, y);
  y = block.ffn_out(y);
  return AddGated(kernels, x.stream, y, m[5]);
}

at::Tensor RunBlockCheckpointed(const WanConfig& config, const WanBlock& block, const WanBlockInputs& in,
                                const at::Tensor& rope, Kernels kernels, bool keep_attention) {
  const auto run = [config, block, rope, kernels](const std::vector<at::Tensor>& inputs) {
    return RunBlock(config, block, {inputs[0], inputs[1], inputs[2], inputs[3]}, rope, kernels);
  };
  return Checkpoint(run, {in.x, in.e0, in.text_value, in.text_key}, block.Tensors(), keep_attention);
}

}  // namespace sgmd
