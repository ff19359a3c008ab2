// What the generator is trained on: gradients with respect to the student's sample x_g. Plain functions of tensors.
//
// x_s = (1 - s) x_g + s e is the noised sample, x_f = x_s - s v_fake(x_s) what the fake score makes of it, x_r = x_s -
// s v_teacher what the teacher does. Terms are means over all elements of the micro-batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "common/config/experiment.h"
#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// One scored micro-batch. Latents are [B, C, F, H, W].
struct ScoredSample {
  at::Tensor x_g;               // the student's sample
  at::Tensor x_s;               // noised to sigma
  at::Tensor sigma;             // [B]
  at::Tensor teacher_velocity;  // guided, at x_s
  Conditioning condition;
};

struct GeneratorGradient {
  at::Tensor gradient;                  // dL/dx_g [B, C, F, H, W]
  std::map<std::string, double> terms;  // generator_loss and its parts
};

/// dL/dx_g of the objective. The gradient may run through the input of `fake`; parameter gradients of `fake` are
/// neither wanted nor computed (they should not require gradients).
GeneratorGradient ComputeGeneratorGradient(const ObjectiveSettings& settings, const VelocityModel& fake,
                                           const ScoredSample& sample);

/// An objective: a file of its own in this folder, named after it.
using ObjectiveFunction = GeneratorGradient(const ObjectiveSettings&, const VelocityModel& fake, const ScoredSample&);

}  // namespace sgmd
