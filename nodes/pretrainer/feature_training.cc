#include "nodes/pretrainer/feature_training.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <numbers>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/progress.h"
#include "nodes/pretrainer/finished.h"
#include "pipeline/evaluation/motion_features.h"
#include "pipeline/flow/random.h"
#include "pipeline/training/adamw.h"

namespace sgmd {
namespace {

// A third of the frames of half the videos lose some of their sharpness: mixed with a blurred copy, or with the frames
// beside them. Those are the faults of students, which the features must see.
at::Tensor Smeared(const at::Tensor& video, std::uint64_t seed) {
  const std::int64_t batch = video.size(0), frames = video.size(2);
  const at::Tensor kind = Uniform({2, batch, 1, 1, 1, 1}, SeedFor(seed, 0, 0, "features_smear_kind"));
  const at::Tensor draw = Uniform({2, batch, 1, frames, 1, 1}, SeedFor(seed, 0, 0, "features_smear"));
  const at::Tensor blurred = at::avg_pool3d(video, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, false, false);
  const at::Tensor mixed = at::avg_pool3d(video, {3, 1, 1}, {1, 1, 1}, {1, 0, 0}, false, false);
  const at::Tensor amount = at::where(at::logical_and(kind[0] < 0.5, draw[0] < 1.0 / 3), draw[1], 0.0);
  return at::lerp(video, at::where(kind[1] < 0.5, blurred, mixed), amount);
}

}  // namespace

void TrainFeatures(const FeatureTrainingOptions& o) {
  const std::string settings =
      StrCat("steps=", o.steps, " batch=", o.batch, " learning_rate=", o.learning_rate, " seed=", o.seed);
  if (TrainedAlready(o.out, "sgmd.training", settings, o.force) && !o.force) {
    return LogInfo(o.out.string(), " was trained with these settings already");
  }
  MotionFeatures network(o.shape, SeedFor(o.seed, 0, 0, "features_initialise"));
  for (const auto& [name, parameter] : network.parameters()) parameter.set_requires_grad(true);
  OptimizerConfig config;
  config.learning_rate = o.learning_rate;
  config.beta1 = 0.9;
  config.beta2 = 0.99;
  config.clip_norm = 5.0;
  AdamW optimizer(network.parameters(), config);
  ProgressLine progress("training features", o.steps);
  double smoothed = 0;
  for (std::int64_t step = 0; step < o.steps; ++step) {
    BouncingBallBatch batch = DrawBouncingBalls(o.shape, o.batch, SeedFor(o.seed, step, 0, "features_video"));
    const at::Tensor sharp = batch.video;
    batch.video = Smeared(sharp, SeedFor(o.seed, step, 0, "features_smear"));
    const at::Tensor loss = network.Loss(batch, sharp);
    loss.backward();
    const double value = loss.item<double>();
    if (optimizer
            .Step(0.5 * (1 + std::cos(std::numbers::pi * static_cast<double>(step) / static_cast<double>(o.steps))))
            .skipped) {
      throw Error(StrCat("the loss became ", value, " at update ", step), o.out.string(), "lower --learning-rate");
    }
    smoothed = smoothed == 0 ? value : 0.98 * smoothed + 0.02 * value;
    progress.Update(step + 1, StrCat("loss ", smoothed));
  }
  progress.Finish();
  c10::NoGradGuard no_grad;
  network.Whiten(Smeared(DrawBouncingBalls(o.shape, 8192, SeedFor(o.seed, 0, 0, "features_whiten")).video,
                         SeedFor(o.seed, 1, 0, "features_whiten")));
  const auto accuracy = network.Test(DrawBouncingBalls(o.shape, 4096, SeedFor(o.seed, 0, 0, "features_test")));
  LogInfo("on unseen videos: ", 100 * accuracy.prompt, " % of the prompts named, speed off by ", accuracy.speed_error,
          " px a frame");
  network.Save(o.out, {{"sgmd.training", settings},
                       {"sgmd.accuracy", StrCat("prompt=", accuracy.prompt, " speed_error=", accuracy.speed_error)}});
}

}  // namespace sgmd
