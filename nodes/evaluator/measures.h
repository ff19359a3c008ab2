// What videos are worth, in numbers: against the many-step teacher's and the data's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/evaluation/ball_track.h"
#include "pipeline/evaluation/frechet.h"
#include "pipeline/evaluation/video_features.h"

namespace sgmd {

struct Measures {
  double frechet_teacher = 0, frechet_data = 0;  // Fréchet distance of the features, lower is nearer
  double flow = 0;                               // mean optical flow of what is not background, px a frame
  double dynamic_degree = 0;                     // share of videos with a flow above kDynamicFlow
  double consistency = 0;                        // 1 - warp error / contrast, see OpticalFlow
  MotionSummary track;                           // the exact object track; its speed_distance is to the teacher

  /// (tag, value) in the order of the report.
  std::vector<std::pair<std::string, double>> Named() const;
};
inline constexpr double kDynamicFlow = 0.4;  // px a frame: between the data's slow (to 0.2) and fast (from 0.6) balls

/// Holds the references. Videos are float32 [N, 3, F, H, W] of the embedded RGB data.
class Measurer {
 public:
  Measurer(VideoFeatures features, const at::Tensor& teacher_videos, const at::Tensor& data_videos);
  Measures Of(const at::Tensor& videos) const;

 private:
  VideoFeatures features_;
  FeatureStatistics teacher_, data_;
  at::Tensor teacher_speed_;
};

}  // namespace sgmd
