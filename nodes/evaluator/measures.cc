#include "nodes/evaluator/measures.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "common/error/error.h"
#include "pipeline/evaluation/ball_track.h"
#include "pipeline/evaluation/frechet.h"
#include "pipeline/evaluation/optical_flow.h"

namespace sgmd {
namespace {

constexpr std::int64_t kEnlarge = 8;
constexpr std::int64_t kDataStrata = 16;  // of DrawBallsInTurn: eight prompts, slow and fast

double Mean(const at::Tensor& values) { return values.to(at::kDouble).mean().item<double>(); }

double Wasserstein(const at::Tensor& a, const at::Tensor& b) {
  return Mean((std::get<0>(a.sort()) - std::get<0>(b.sort())).abs());
}

VideoRecords Members(const VideoRecords& all, const at::Tensor& members) {
  const auto of = [&](const at::Tensor& values) { return values.index_select(0, members); };
  return {of(all.features), of(all.speed), of(all.jitter), of(all.mass), of(all.flow), of(all.consistency)};
}

const std::vector<std::string> kNames{"frechet_teacher", "frechet_data", "speed_distance", "mean_speed",
                                      "fast_share",      "flow",         "dynamic_degree", "consistency",
                                      "jitter",          "mass"};

// In the order of kNames.
std::vector<double> Figures(const VideoRecords& v, const VideoRecords& teacher, const VideoRecords& data) {
  const FeatureStatistics statistics = StatisticsOf(v.features);
  return {FrechetDistance(statistics, StatisticsOf(teacher.features)),
          FrechetDistance(statistics, StatisticsOf(data.features)),
          Wasserstein(v.speed, teacher.speed),
          Mean(v.speed),
          Mean(v.speed > kFastSpeed),
          Mean(v.flow),
          Mean(v.flow > kDynamicFlow),
          Mean(v.consistency),
          Mean(v.jitter),
          Mean(v.mass)};
}

}  // namespace

const Estimate& Measures::At(std::string_view name) const {
  const auto place = std::find(names.begin(), names.end(), name);
  if (place == names.end()) throw Error(StrCat("there is no figure ", name));
  return estimates[static_cast<std::size_t>(place - names.begin())];
}

std::vector<std::pair<std::string, double>> Measures::Fields() const {
  const auto rounded = [](double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return std::strtod(text, nullptr);
  };
  std::vector<std::pair<std::string, double>> fields;
  for (std::size_t i = 0; i < names.size(); ++i) {
    fields.emplace_back(names[i], rounded(estimates[i].value));
    fields.emplace_back(names[i] + "_low", rounded(estimates[i].low));
    fields.emplace_back(names[i] + "_high", rounded(estimates[i].high));
  }
  return fields;
}

std::string Text(const Estimate& e) {
  char text[96];
  const double half = (e.high - e.low) / 2;
  if (half == 0) {
    std::snprintf(text, sizeof text, "%.3g", e.value);
    return text;
  }
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(half / 3))), 0, 6);
  std::snprintf(text, sizeof text, "%.*f [%.*f, %.*f]", decimals, e.value, decimals, e.low, decimals, e.high);
  return text;
}

void RequireEnoughVideos(std::int64_t videos, std::int64_t features) {
  if (videos >= kVideosPerFeature * features) return;
  throw Error(StrCat(videos, " videos are too few for a Fréchet distance of ", features,
                     " features: it would tell more of their number than of what they show"),
              {},
              StrCat("measure at least ", kVideosPerFeature * features,
                     ": [evaluator] samples of the topology, or --samples of sgmd-evaluator"));
}

Measurer::Measurer(VideoFeatures features, const at::Tensor& teacher_videos, const at::Tensor& data_videos,
                   std::int64_t prompts, std::uint64_t seed)
    : features_(std::move(features)),
      teacher_(Observe(teacher_videos)),
      data_(Observe(data_videos)),
      prompts_(prompts),
      seed_(seed) {}

VideoRecords Measurer::Observe(const at::Tensor& videos) const {
  const at::Tensor features = features_(videos).to(at::kDouble);
  RequireEnoughVideos(features.size(0), features.size(1));
  const FlowSummary flow = OpticalFlow(videos, kEnlarge);
  const BallTrack track = TrackBalls(videos);
  return {features,
          track.speed.to(at::kDouble),
          track.jitter.to(at::kDouble),
          track.mass.to(at::kDouble),
          flow.magnitude.to(at::kDouble),
          flow.consistency.to(at::kDouble)};
}

Measures Measurer::Of(const at::Tensor& videos) const { return Estimates(Observe(videos), /*of_teacher=*/false); }

Measures Measurer::OfTeacher() const { return Estimates(teacher_, /*of_teacher=*/true); }

Measures Measurer::Estimates(const VideoRecords& videos, bool of_teacher) const {
  const auto set = [](const VideoRecords& v, std::int64_t strata) { return SampleSet{v.speed.size(0), strata}; };
  const auto statistics = [&](const std::vector<at::Tensor>& members) {
    const VideoRecords teacher = Members(teacher_, members[1]);
    return Figures(of_teacher ? teacher : Members(videos, members[0]), teacher, Members(data_, members[2]));
  };
  Measures measures{
      kNames, Bootstrap({set(videos, prompts_), set(teacher_, prompts_), set(data_, kDataStrata)}, statistics, seed_)};
  if (of_teacher) measures.estimates[0] = measures.estimates[2] = {};  // rounding is left of the distances to itself
  return measures;
}

}  // namespace sgmd
