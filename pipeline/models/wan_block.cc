#include "pipeline/models/wan_block.h"

#include <ATen/ATen.h>

#include <utility>

#include "pipeline/models/attention.h"
#include "pipeline/models/checkpointing.h"
#include "pipeline/models/token_spans.h"

namespace sgmd {
namespace {

at::Tensor OwnRows(const at::Tensor& rows, const TokenShare* share) {
  const auto [first, count] = OwnTokens(rows.size(0), share);
  return rows.narrow(0, first, count);
}

// [B, M, D] -> [B, M, H, d].
at::Tensor Heads(const WanConfig& config, const at::Tensor& t) {
  return t.view({t.size(0), t.size(1), config.num_heads, config.head_dim()});
}

// What queries [B, N, H, d] find among the CLIP tokens, [B, N, H, d].
at::Tensor AttendToClip(const WanConfig& config, const WanAttention& a, const at::Tensor& q, const WanBlockInputs& in,
                        Kernels kernels) {
  const at::Tensor k =
      Heads(config, RmsNormThenRotate(kernels, a.k_img(in.clip_key), a.norm_k_img, /*table=*/{}, config.eps));
  const at::Tensor v = Heads(config, a.v_img(in.clip_value));
  return Attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), /*keep=*/false).transpose(1, 2);
}

// With `clip` the queries meet its CLIP tokens too, in an attention of their own.
at::Tensor Attend(const WanConfig& config, const WanAttention& a, const at::Tensor& x, const at::Tensor& key_context,
                  const at::Tensor& value_context, const at::Tensor& rope, Kernels kernels, const TokenShare* share,
                  const WanBlockInputs* clip = nullptr) {
  const auto heads = [&](const at::Tensor& t) { return Heads(config, t); };
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
  if (clip != nullptr) out = out + AttendToClip(config, a, q, *clip, kernels);
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
  if (const WanAttention& a = cross_attn; a.norm_k_img.defined())
    tensors.insert(tensors.end(), {a.k_img.weight, a.k_img.bias, a.v_img.weight, a.v_img.bias, a.norm_k_img});
  return tensors;
}

std::vector<at::Tensor> WanBlockInputs::List() const {
  if (!clip_key.defined()) return {x, e0, text_value, text_key};
  return {x, e0, text_value, text_key, clip_value, clip_key};
}

WanBlockInputs WanBlockInputs::Of(const std::vector<at::Tensor>& list, std::int64_t held) {
  WanBlockInputs in{list[0], list[1], list[2], list[3]};
  if (list.size() > 4) in.clip_value = list[4], in.clip_key = list[5];
  in.held = held;
  return in;
}

at::Tensor RunBlock(const WanConfig& config, const WanBlock& block, const WanBlockInputs& in, const at::Tensor& rope,
                    Kernels kernels, const TokenShare* share) {
  const TokenSpans spans(block.modulation, in.e0, in.held, rope.size(0), share);
  // Each tensor is let go when it has been read: without a graph little is alive at once.
  at::Tensor y =
      spans.Each([&](const TokenSpan& s) { return AdaptiveNorm(kernels, s.Of(in.x), s.m[1], s.m[0], config.eps); });
  y = Attend(config, block.self_attn, y, y, y, rope, kernels, share);
  StreamAndNorm x = spans.Each([&](const TokenSpan& s) {
    return AddThenNorm(kernels, s.Of(in.x), s.Of(y), s.m[2], block.norm3_weight, block.norm3_bias, config.eps);
  });
  y.reset();
  y = Attend(config, block.cross_attn, std::exchange(x.norm, {}), in.text_key, in.text_value, {}, kernels, share,
             in.clip_key.defined() ? &in : nullptr);
  x = spans.Each([&](const TokenSpan& s) {
    return AddThenNorm(kernels, s.Of(x.stream), s.Of(y), {}, s.m[4], s.m[3], config.eps);
  });
  y.reset();
  y = block.ffn_in(std::exchange(x.norm, {}));
  y = Gelu(kernels, y);
  y = block.ffn_out(y);
  return spans.Each([&](const TokenSpan& s) { return AddGated(kernels, s.Of(x.stream), s.Of(y), s.m[5]); });
}

at::Tensor RunBlockCheckpointed(const WanConfig& config, const WanBlock& block, const WanBlockInputs& in,
                                const at::Tensor& rope, Kernels kernels, bool keep_attention) {
  const auto run = [config, block, rope, kernels, held = in.held](const std::vector<at::Tensor>& inputs) {
    return RunBlock(config, block, WanBlockInputs::Of(inputs, held), rope, kernels);
  };
  return Checkpoint(run, in.List(), block.Tensors(), keep_attention);
}

}  // namespace sgmd
