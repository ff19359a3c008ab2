// What the generator is trained on: gradients with respect to the student's sample x_g. Plain functions of tensors.
//
// x_s = (1 - s) x_g + s e is the noised sample, x_f = x_s - s v_fake(x_s) what the fake score makes of it, x_r = x_s - s
// v_teacher what the teacher does. Terms are means over all elements of the micro-batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "pipeline/models/wan_transformer.h"

namespace sgmd {

struct ObjectiveSettings {
  std::string name = "sgmd";           // sgmd | dmd2
  std::string weighting = "lightx2v";  // of sgmd: lightx2v | paper
  double lambda = 0.1;                 // weight of the negative residual, >= 0
};

/// One scored micro-batch. Latents are [B, C, F, H, W].
struct ScoredSample {
  at::Tensor x_g;              // the student's sample
  at::Tensor x_s;              // noised to sigma
  at::Tensor sigma;            // [B]
  at::Tensor teacher_velocity; // guided, at x_s
  at::Tensor context;          // [B, text_len, text_dim]
};

struct GeneratorGradient {
  at::Tensor gradient;                  // dL/dx_g [B, C, F, H, W]
  std::map<std::string, double> terms;  // generator_loss and its parts
};

/// dL/dx_g of the named objective. For sgmd the gradient runs through the input of `fake` (whose parameter gradients are
/// neither wanted nor computed: they must not require gradients); for dmd2 one forward without gradient.
/// Throws Error on an unknown name.
GeneratorGradient ComputeGeneratorGradient(const ObjectiveSettings& settings, const WanTransformer& fake,
                                           const ScoredSample& sample);

/// Per-sample mean |x_g - x_r| [B, 1, 1, 1, 1], detached: the normaliser of `lightx2v` and `dmd2` (wan_facts §5).
at::Tensor SampleNormaliser(const at::Tensor& x_g, const at::Tensor& x_r);

/// Fisher term: mean 1/2 w (x_f - x_r)^2, gradient through x_f alone. w = alpha^2 / sigma^4 (`paper`: the squared
/// difference of scores) or 1 / (n + 1e-8) (`lightx2v`).
at::Tensor FisherTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g, const at::Tensor& sigma,
                      const std::string& weighting);

/// Negative residual, to be subtracted with weight lambda. `paper`: mean 1/2 (sg[x_g] - x_f)^2. `lightx2v`: value
/// 1/2 mean d^2 and gradient d / numel with respect to x_f, d = sg[(x_f - x_g) / sigma].
at::Tensor NegativeResidualTerm(const at::Tensor& x_f, const at::Tensor& x_g, const at::Tensor& sigma,
                                const std::string& weighting);

/// The inner loss, residual contraction: 1/2 mean (v_fake(x_s') - (e' - x_g))^2, differentiable in fake's parameters.
/// sigma [B] and noise are new draws.
at::Tensor ResidualContractionLoss(const WanTransformer& fake, const at::Tensor& x_g, const at::Tensor& sigma,
                                   const at::Tensor& noise, const at::Tensor& context);

}  // namespace sgmd
