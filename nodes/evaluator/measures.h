// What videos are worth, in numbers with intervals: against the many-step teacher's and the data's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/evaluation/bootstrap.h"
#include "pipeline/evaluation/video_features.h"

namespace sgmd {

/// The figures of one set of videos, in the order of the report:
///   frechet_teacher, frechet_data  Fréchet distance of the features, lower is nearer
///   speed_distance                 to the teacher: mean |difference| of the sorted speeds (Wasserstein-1), px a frame
///   mean_speed, fast_share         of the exact object track, px a frame; share of videos above kFastSpeed
///   flow, dynamic_degree           optical flow of what is not background, px a frame; share above kDynamicFlow
///   consistency                    1 - warp error / contrast, see OpticalFlow
///   jitter, mass                   see BallTrack
struct Measures {
  std::vector<std::string> names;
  std::vector<Estimate> estimates;  // as many

  /// Throws Error on a name that is not there.
  const Estimate& At(std::string_view name) const;
  /// For JSON: <name>, <name>_low and <name>_high of each, to six digits.
  std::vector<std::pair<std::string, double>> Fields() const;
};
inline constexpr double kDynamicFlow = 0.4;  // px a frame: between the data's slow (to 0.2) and fast (from 0.6) balls

/// "0.27 [0.24, 0.31]", with as many decimals as the interval bears.
std::string Text(const Estimate& estimate);

/// How many videos a Fréchet distance needs: so many for each dimension of the features.
inline constexpr std::int64_t kVideosPerFeature = 10;

/// Throws Error when `videos` are fewer than that for `features` dimensions.
void RequireEnoughVideos(std::int64_t videos, std::int64_t features);

/// What is known of each video of a set; the figures are means and distances of these.
struct VideoRecords {
  at::Tensor features;                                // float64 [N, D]
  at::Tensor speed, jitter, mass, flow, consistency;  // float64 [N]
};

/// Holds the references. Videos are float32 [N, 3, F, H, W] of the embedded RGB data; the teacher's and those measured
/// are drawn from `prompts` prompts in turn, the data's by DrawBallsInTurn.
class Measurer {
 public:
  /// `seed`: of the resamples. Throws Error as RequireEnoughVideos.
  Measurer(VideoFeatures features, const at::Tensor& teacher_videos, const at::Tensor& data_videos,
           std::int64_t prompts, std::uint64_t seed);

  /// Of videos that were drawn from other noise than the reference. The intervals count its chance in as well.
  Measures Of(const at::Tensor& videos) const;
  /// Of the reference itself: at distance 0 from itself.
  Measures OfTeacher() const;

 private:
  VideoRecords Observe(const at::Tensor& videos) const;
  Measures Estimates(const VideoRecords& videos, bool of_teacher) const;

  VideoFeatures features_;
  VideoRecords teacher_, data_;
  std::int64_t prompts_;
  std::uint64_t seed_;
};

}  // namespace sgmd
