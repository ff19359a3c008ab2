// The terms that objectives are made of, and the loss of the fake score. Symbols as in objective.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "pipeline/objectives/objective.h"

namespace sgmd {

/// 1 / (n + 1e-8), [B, 1, 1, 1, 1], detached, where n is the mean |x_g - x_r| of a sample: the weight of `lightx2v` and
/// `dmd2` (wan_facts §5).
at::Tensor NormalisingWeight(const at::Tensor& x_g, const at::Tensor& x_r);

/// The paper's weight alpha^2 / sigma^4 with alpha = 1 - sigma, which makes a squared difference of clean samples one
/// of scores; not above `cap` if that is above 0. It falls from 6e6 at sigma 0.02 to 4e-4 at 0.98: without a cap the
/// samples of least noise decide alone. Sigma has any shape.
at::Tensor PaperWeight(const at::Tensor& sigma, double cap);

/// Weight w of the Fisher and score-identity terms, [B, 1, 1, 1, 1], detached, by settings.weighting: PaperWeight with
/// settings.weight_cap, or NormalisingWeight.
at::Tensor ScoreWeight(const at::Tensor& x_g, const at::Tensor& x_r, const at::Tensor& sigma,
                       const ObjectiveSettings& settings);

/// Fisher term: mean 1/2 w (x_f - x_r)^2, gradient through x_f alone (teacher stop-gradient).
at::Tensor FisherTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g, const at::Tensor& sigma,
                      const ObjectiveSettings& settings);

/// Negative residual, to be subtracted with weight lambda. `paper`: mean 1/2 (sg[x_g] - x_f)^2. `lightx2v`: value
/// 1/2 mean d^2 and gradient d / numel with respect to x_f, d = sg[(x_f - x_g) / sigma].
at::Tensor NegativeResidualTerm(const at::Tensor& x_f, const at::Tensor& x_g, const at::Tensor& sigma,
                                Weighting weighting);

/// Score identity term (score implicit matching): mean w (x_r - x_f) (x_f - x_g), gradient through x_f and x_g.
at::Tensor ScoreIdentityTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g,
                             const at::Tensor& sigma, const ObjectiveSettings& settings);

/// dL/dx_g of `loss`(x_f, x_r, x_g), where x_s moves with x_g by (1 - s): (1 - s) dL/dx_s + dL/dx_g. One forward and
/// one input backward of `fake`. Its terms hold generator_loss.
GeneratorGradient ThroughFakeScore(
    const VelocityModel& fake, const ScoredSample& sample,
    const std::function<at::Tensor(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g)>& loss);

/// The inner loss, residual contraction, differentiable in fake's parameters. `lightx2v`: mean 1/2 (v_fake(x_s') -
/// (e' - x_g))^2. `paper`: mean 1/2 (x_g - x_f)^2, each sample's loss sigma'^2 times the other's. sigma' [B] and e' are
/// new draws, x_g has no gradient.
at::Tensor ResidualContractionLoss(const VelocityModel& fake, const at::Tensor& x_g, const at::Tensor& sigma,
                                   const at::Tensor& noise, const Conditioning& condition, Weighting weighting);
/// The same of a pass that was made: `velocity` = v_fake(x_s').
at::Tensor ResidualContractionLoss(const at::Tensor& velocity, const at::Tensor& x_s, const at::Tensor& x_g,
                                   const at::Tensor& sigma, const at::Tensor& noise, Weighting weighting);

}  // namespace sgmd
