// Videos of one model under one schedule: what is measured and shown.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {

struct Arm {
  std::string title;
  const WanTransformer* model = nullptr;
  std::vector<double> sigmas;
  double guidance = 1.0;  // w in u + w (c - u)
  at::Tensor videos;      // float32 [samples, C, F, H, W] once drawn
};

/// The many-step teacher (`steps` uniform Euler steps at the student's shift), and a model on the grid of
/// `student_steps` (timesteps before the shift, descending).
Arm TeacherArm(const Experiment& experiment, const WanTransformer& teacher, std::int64_t steps);
Arm FewStepArm(const Experiment& experiment, const std::vector<std::int64_t>& student_steps,
               const WanTransformer& model, const std::string& name, double guidance);

/// Fills arm.videos; prompts in turn, so that a multiple of their number holds each equally often. Noise is a function
/// of (seed, sample), so all arms of one seed start from the same. Shows progress.
void DrawVideos(const Experiment& experiment, const PromptBank& bank, std::int64_t samples, std::uint64_t seed,
                Arm& arm);

/// uint8 [F or 1, H', W', 3]: one row a video, the arms side by side between grey lines; with `frames_in_a_row` each
/// cell is a strip of all frames, otherwise the result moves. `rows` <= samples.
at::Tensor Mosaic(const std::vector<const Arm*>& arms, std::int64_t rows, bool frames_in_a_row);
inline constexpr double kFramesPerSecond = 8;

}  // namespace sgmd
