// The diversity loss: keeps the student's first velocity on the way that the teacher takes from the same noise, so that
// the distilled student does not lose the teacher's modes and motion (wan_facts §5 "Diversity").
//
//   loss   = weight * mean |v_student(z, 1) - target|^2
//   target = (z - x_a) / (1 - sigma_a)
//
// z [B, C, F, H, W] is noise, x_a the anchor: where the teacher is at sigma_a after the first `steps` Euler steps,
// guided, of a grid of `grid` steps with the student's shift. The target is the teacher's mean velocity from 1 to
// sigma_a. An anchor depends on teacher, guidance, prompt, noise and grid alone, never on the student: it is computed
// once and kept.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// The first `steps` + 1 sigmas of a shifted grid of `grid` steps, from 1 to sigma_a = S_shift(1 - steps / grid): 5 of
/// 30 at shift 5 end at 0.96154, 10 of 40 at 0.9375. 1 <= steps <= grid.
std::vector<double> AnchorSigmas(std::int64_t steps, std::int64_t grid, double shift);

/// (noise - x_a) / (1 - sigma_a), in the dtype of `noise`, which should be float32: the division magnifies rounding by
/// 26 at sigma_a = 0.96154. sigma_a < 1.
at::Tensor AnchorTarget(const at::Tensor& noise, const at::Tensor& x_a, double sigma_a);

/// The loss, a scalar, differentiable in the parameters of `student`: one forward.
at::Tensor DiversityLoss(const VelocityModel& student, const at::Tensor& noise, const at::Tensor& target,
                         const Conditioning& condition, double weight);

}  // namespace sgmd
