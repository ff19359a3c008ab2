// Videos of one model under one schedule: what is measured and shown.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "nodes/evaluator/picture_grid.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/guidance.h"
#include "pipeline/models/wan_experts.h"

namespace sgmd {

struct Arm {
  std::string title;
  const WanExperts* model = nullptr;
  std::vector<double> sigmas;
  Guidance guidance;
  at::Tensor videos;  // float32 [samples, C, F, H, W] once drawn
  RolloutForm rollout = RolloutForm::kEuler;
};

/// The many-step teacher (`steps` uniform Euler steps at the student's shift); a model on the grid of `student_steps`
/// (timesteps before the shift, descending), by Euler; and a student there as it was trained, by [schedule] rollout and
/// without guidance.
Arm TeacherArm(const Experiment& experiment, const WanExperts& teacher, std::int64_t steps, const Guidance& guidance);
Arm FewStepArm(const Experiment& experiment, const std::vector<std::int64_t>& student_steps, const WanExperts& model,
               const std::string& name, const Guidance& guidance);
Arm StudentArm(const Experiment& experiment, const std::vector<std::int64_t>& student_steps, const WanExperts& student,
               const std::string& name = "student");

/// Fills arm.videos; prompts in turn, so that a multiple of their number holds each equally often. Noise is a function
/// of (seed, sample), so all arms of one seed start from the same; new noise on the way one of (seed, sample, step).
/// Shows progress.
void DrawVideos(const Experiment& experiment, const PromptBank& bank, std::int64_t samples, std::uint64_t seed,
                Arm& arm);

/// The first video of each prompt: a row a prompt, a column an arm, all with their names.
PictureGrid GridOf(const std::vector<const Arm*>& arms, const std::vector<std::string>& prompts);
inline constexpr std::int64_t kEnlarge = 8;  // of the embedded videos of 8 x 8 pixels, to be shown
inline constexpr double kFramesPerSecond = 8;

}  // namespace sgmd
