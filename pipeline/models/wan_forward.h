// The Wan transformer (wan_facts §1.3) as plain structures of tensors and one function of them, wherever the tensors
// come from: a model that has them all, or one whose parameters are sharded over a group and gathered block by block.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/wan_block.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// Gives the parameter of a name (wan_facts §1.2), which has this shape.
using ParameterSource = std::function<at::Tensor(const std::string& name, at::IntArrayRef shape)>;

/// What embeds CLIP tokens (original img_emb.proj): norm, Linear, GELU in its exact form, Linear, norm. Both norms are
/// affine, with eps 1e-5, and float32 islands.
struct WanClipEmbedding {
  at::Tensor norm_in_weight, norm_in_bias;    // [image_dim]
  WanLinear in, out;                          // [image_dim, image_dim], [D, image_dim]
  at::Tensor norm_out_weight, norm_out_bias;  // [D]
};

/// What comes before the blocks, and after them.
struct WanStem {
  at::Tensor patch_weight, patch_bias;  // [D, C, p_f, p_h, p_w], [D]
  WanLinear text_in, text_out, time_in, time_out, time_projection;
  WanClipEmbedding clip;  // of a model that takes CLIP tokens
};
struct WanHead {
  WanLinear linear;
  at::Tensor modulation;  // [1, 2, D]
};

/// Each asks for its parameters in the order of wan_facts §1.2, and for those of CLIP tokens last; a model asks for the
/// stem, its blocks, the head.
WanStem StemFrom(const WanConfig& config, const ParameterSource& source);
WanBlock BlockFrom(const WanConfig& config, std::int64_t number, const ParameterSource& source);
WanHead HeadFrom(const WanConfig& config, const ParameterSource& source);

/// "blocks.<number>."
std::string BlockPrefix(std::int64_t number);

/// How a pass is computed: the dtype of Linears, attention and the residual stream; that of norms, modulation and
/// results; and what computes those.
struct WanArithmetic {
  at::ScalarType compute = at::kFloat, wide = at::kFloat;
  Kernels kernels = Kernels::kFused;
};

/// Runs block `number`: the residual stream after it.
using BlockRunner =
    std::function<at::Tensor(std::int64_t number, const WanBlockInputs& inputs, const at::Tensor& rope)>;

/// RopeTable by grid, made on first use, on one device.
class RopeTables {
 public:
  const at::Tensor& For(const std::array<std::int64_t, 3>& grid, const WanConfig& config, at::ScalarType wide,
                        at::Device device);

 private:
  std::map<std::array<std::int64_t, 3>, at::Tensor> tables_;
};

/// WanTransformer::Forward, with the blocks that `run` runs. Counts work as it goes, in the backward pass too. With
/// `share` each rank computes its tokens; x, condition and the result are whole on every rank, and so is the gradient
/// of x, where that of the result is; gradients of parameters are what the rank's tokens add to them.
at::Tensor WanForward(const WanConfig& config, WanArithmetic arithmetic, const WanStem& stem, const WanHead& head,
                      const BlockRunner& run, RopeTables& ropes, const at::Tensor& x, const at::Tensor& sigma,
                      const Conditioning& condition, const TokenShare* share = nullptr);

/// cos(t w) || sin(t w), w_j = 10000^(-j / (dim/2)); computed in float64, returned as float64 [B, dim]. `timestep` [B].
at::Tensor TimestepSinusoid(const at::Tensor& timestep, std::int64_t dim);

/// Rotations e^{i p w} for the tokens of a (frames, height, width) grid, complex128 [N, head_dim/2], N = f h w with w
/// fastest. Of c = head_dim/2 pairs, c - 2 floor(c/3) turn with the frame, floor(c/3) with the row, floor(c/3) with the
/// column.
at::Tensor RopeTable(at::IntArrayRef grid, std::int64_t head_dim);

}  // namespace sgmd
