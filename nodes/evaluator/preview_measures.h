// What decoded videos of a student are worth beside its teacher's of the same prompts and noise.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "nodes/evaluator/measures.h"

namespace sgmd {

/// What is known of each video of a set.
struct PreviewRecords {
  std::vector<double> flow;         // px a frame, of what moves (OpticalFlow)
  std::vector<double> consistency;  // in [0, 1], see OpticalFlow
  std::vector<double> saturation;   // mean of max(R, G, B) - min(R, G, B), in [0, 1]
  std::vector<double> short_side;   // px: the smaller of height and width
};

/// Adds a video: float32 [1, 3, F, H, W] in [-1, 1] on the CPU, F >= 2. Flow is measured on frames that are reduced to
/// a short side of about 240 px, and counted in pixels of the video.
void Observe(const at::Tensor& pixels, PreviewRecords& records);

/// A video counts as dynamic above this flow: a share of the short side a frame, 1 px at 480p.
inline constexpr double kDynamicShare = 1.0 / 480;

/// Figures of the student's videos, each with an interval over the choice of videos (Bootstrap):
///   flow            mean, px a frame
///   dynamic_degree  share of videos above kDynamicShare
///   consistency     mean
///   saturation      mean
///   motion          flow over the teacher's of the same prompts and noise
///   colour          saturation over the teacher's, likewise
/// Throws Error unless both sets have the same number of videos, at least one.
Measures PreviewMeasures(const PreviewRecords& student, const PreviewRecords& teacher, std::uint64_t seed);

}  // namespace sgmd
