#include "nodes/evaluator/measures.h"

#include <ATen/ATen.h>

#include "pipeline/evaluation/optical_flow.h"

namespace sgmd {

std::vector<std::pair<std::string, double>> Measures::Named() const {
  return {{"frechet_teacher", frechet_teacher},
          {"frechet_data", frechet_data},
          {"speed_distance", track.speed_distance},
          {"mean_speed", track.mean_speed},
          {"fast_share", track.fast_share},
          {"flow", flow},
          {"dynamic_degree", dynamic_degree},
          {"consistency", consistency},
          {"jitter", track.jitter},
          {"mass", track.mass}};
}

Measurer::Measurer(VideoFeatures features, const at::Tensor& teacher_videos, const at::Tensor& data_videos)
    : features_(std::move(features)),
      teacher_(StatisticsOf(features_(teacher_videos))),
      data_(StatisticsOf(features_(data_videos))),
      teacher_speed_(TrackBalls(teacher_videos).speed) {}

Measures Measurer::Of(const at::Tensor& videos) const {
  constexpr std::int64_t kEnlarge = 8;
  Measures m;
  const FeatureStatistics statistics = StatisticsOf(features_(videos));
  m.frechet_teacher = FrechetDistance(statistics, teacher_);
  m.frechet_data = FrechetDistance(statistics, data_);
  const FlowSummary flow = OpticalFlow(videos, kEnlarge);
  m.flow = flow.magnitude.mean().item<double>();
  m.dynamic_degree = (flow.magnitude > kDynamicFlow).to(at::kDouble).mean().item<double>();
  m.consistency = flow.consistency.mean().item<double>();
  m.track = Summarise(TrackBalls(videos), teacher_speed_);
  return m;
}

}  // namespace sgmd
