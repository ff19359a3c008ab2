#include "pipeline/models/wan_block.h"

#include <ATen/ATen.h>

#include "pipeline/models/checkpointing.h"

namespace sgmd {
namespace {

// x / rms(x) * weight over the last axis, in at least float32.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = Wide(x);
  return wide * at::rsqrt(wide.square().mean(-1, true) + eps) * Wide(weight);
}

at::Tensor OwnRows(const at::Tensor& rows, const TokenShare* share) {
  if (share == nullptr) return rows;
  const auto [first, count] = share->RangeOf(share->rank(), rows.size(0));
  return rows.narrow(0, first, count);
}

at::Tensor Attend(const WanConfig& config, const WanAttention& a, const at::Tensor& x, const at::Tensor& key_context,
                  const at::Tensor& value_context, const at::Tensor& rope, const TokenShare* share) {
  const auto heads = [&](const at::Tensor& t) {
    return t.view({t.size(0), t.size(1), config.num_heads, config.head_dim()});
  };
  at::Tensor q = heads(RmsNorm(a.q(x), a.norm_q, config.eps));
  at::Tensor k = heads(RmsNorm(a.k(key_context), a.norm_k, config.eps));
  if (rope.defined()) {
    const at::Tensor own = OwnRows(rope, share);
    q = ApplyRope(q, own);
    k = ApplyRope(k, own);
  }
  at::Tensor v = heads(a.v(value_context));
  const at::ScalarType compute = x.scalar_type();
  q = q.to(compute);
  k = k.to(compute);
  // Queries of all tokens meet keys of all tokens, head by head; keys of the text are on every rank.
  const bool exchanged = share != nullptr && rope.defined();
  if (exchanged) {
    for (at::Tensor* t : {&q, &k, &v}) *t = share->ByHeads(*t, rope.size(0));
  }
  at::Tensor out =
      at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))  // scale 1/sqrt(head)
          .transpose(1, 2);
  if (exchanged) out = share->ByTokens(out);
  return a.o(out.flatten(2));
}

}  // namespace

at::Tensor WanLinear::operator()(const at::Tensor& x) const {
  const at::ScalarType compute = x.scalar_type();
  const at::Tensor y = at::linear(x, weight.to(compute), bias.to(compute));
  if (!lora_down.defined()) return y;
  return at::add(y, at::linear(at::linear(x, lora_down.to(compute)), lora_up.to(compute)), lora_scale);
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

at::Tensor Wide(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf ? x.to(at::kFloat) : x;
}

at::Tensor Modulate(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift) {
  return at::addcmul(shift, x, scale + 1);
}

at::Tensor PlainNorm(const at::Tensor& x, double eps) { return at::layer_norm(Wide(x), {x.size(-1)}, {}, {}, eps); }

at::Tensor ApplyRope(const at::Tensor& x, const at::Tensor& table) {
  const auto shape = x.sizes();
  const at::Tensor pairs = at::view_as_complex(x.reshape({shape[0], shape[1], shape[2], -1, 2}));
  return at::view_as_real(pairs * table.unsqueeze(1)).flatten(-2);
}

at::Tensor RunBlock(const WanConfig& config, const WanBlock& block, const WanBlockInputs& in, const at::Tensor& rope,
                    const TokenShare* share) {
  at::Tensor x = in.x;
  const at::ScalarType compute = x.scalar_type();
  // 0 shift_sa, 1 scale_sa, 2 gate_sa, 3 shift_ff, 4 scale_ff, 5 gate_ff; each [B, 1, D]
  const auto m = (block.modulation + Wide(in.e0)).chunk(6, 1);
  const at::Tensor sa_in = Modulate(PlainNorm(x, config.eps), m[1], m[0]).to(compute);
  const at::Tensor sa = Attend(config, block.self_attn, sa_in, sa_in, sa_in, rope, share);
  x = at::addcmul(Wide(x), Wide(sa), m[2]).to(compute);
  const at::Tensor ca_in =
      at::layer_norm(Wide(x), {config.dim}, block.norm3_weight, block.norm3_bias, config.eps).to(compute);
  x = x + Attend(config, block.cross_attn, ca_in, in.text_key, in.text_value, {}, share);
  const at::Tensor ff_in = Modulate(PlainNorm(x, config.eps), m[4], m[3]).to(compute);
  const at::Tensor ff = block.ffn_out(at::gelu(block.ffn_in(ff_in), "tanh"));
  return at::addcmul(Wide(x), Wide(ff), m[5]).to(compute);
}

at::Tensor RunBlockCheckpointed(const WanConfig& config, const WanBlock& block, const WanBlockInputs& in,
                                const at::Tensor& rope) {
  const auto run = [config, block, rope](const std::vector<at::Tensor>& inputs) {
    return RunBlock(config, block, {inputs[0], inputs[1], inputs[2], inputs[3]}, rope);
  };
  return Checkpoint(run, {in.x, in.e0, in.text_value, in.text_key}, block.Tensors());
}

}  // namespace sgmd
