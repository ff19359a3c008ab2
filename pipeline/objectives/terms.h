// The terms that objectives are made of, and the loss of the fake score. Symbols as in objective.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "pipeline/objectives/objective.h"

namespace sgmd {

/// Per-sample mean |x_g - x_r| [B, 1, 1, 1, 1], detached: the normaliser of `lightx2v` and `dmd2` (wan_facts §5).
at::Tensor SampleNormaliser(const at::Tensor& x_g, const at::Tensor& x_r);

/// Weight w of the Fisher and score-identity terms, [B, 1, 1, 1, 1], detached: alpha^2 / sigma^4 (`paper`, the squared
/// difference of scores) or 1 / (n + 1e-8) (`lightx2v`, n the normaliser).
at::Tensor ScoreWeight(const at::Tensor& x_g, const at::Tensor& x_r, const at::Tensor& sigma, Weighting weighting);

/// Fisher term: mean 1/2 w (x_f - x_r)^2, gradient through x_f alone (teacher stop-gradient).
at::Tensor FisherTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g, const at::Tensor& sigma,
                      Weighting weighting);

/// Negative residual, to be subtracted with weight lambda. `paper`: mean 1/2 (sg[x_g] - x_f)^2. `lightx2v`: value
/// 1/2 mean d^2 and gradient d / numel with respect to x_f, d = sg[(x_f - x_g) / sigma].
at::Tensor NegativeResidualTerm(const at::Tensor& x_f, const at::Tensor& x_g, const at::Tensor& sigma,
                                Weighting weighting);

/// Score identity term (score implicit matching): mean w (x_r - x_f) (x_f - x_g), gradient through x_f and x_g.
at::Tensor ScoreIdentityTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g,
                             const at::Tensor& sigma, Weighting weighting);

/// dL/dx_g of `loss`(x_f, x_r, x_g), where x_s moves with x_g by (1 - s): (1 - s) dL/dx_s + dL/dx_g. One forward and
/// one input backward of `fake`. Its terms hold generator_loss.
GeneratorGradient ThroughFakeScore(
    const VelocityModel& fake, const ScoredSample& sample,
    const std::function<at::Tensor(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g)>& loss);

/// The inner loss, residual contraction: 1/2 mean (v_fake(x_s') - (e' - x_g))^2, differentiable in fake's parameters.
/// sigma [B] and noise are new draws.
at::Tensor ResidualContractionLoss(const VelocityModel& fake, const at::Tensor& x_g, const at::Tensor& sigma,
                                   const at::Tensor& noise, const Conditioning& condition);

}  // namespace sgmd
