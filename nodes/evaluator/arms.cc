#include "nodes/evaluator/arms.h"

#include <ATen/ATen.h>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"

namespace sgmd {
namespace {

constexpr std::int64_t kBatch = 64;

// Of samples first .. first + count - 1, [count, C, F, H, W]: the initial noise (step 0) or that of a step on the way.
at::Tensor NoiseOf(const Experiment& e, std::uint64_t seed, std::int64_t step, std::int64_t first, std::int64_t count) {
  std::vector<at::Tensor> noise;
  for (std::int64_t i = first; i < first + count; ++i)
    noise.push_back(Noise(e.data.latent, SeedFor(seed, step, i, "evaluation_noise")));
  return at::stack(noise);
}

}  // namespace

Arm TeacherArm(const Experiment& e, const WanExperts& teacher, std::int64_t steps, const Guidance& guidance) {
  return {StrCat("teacher ", steps, " steps"), &teacher, UniformSigmas(steps, e.schedule.student_shift), guidance, {}};
}

Arm FewStepArm(const Experiment& e, const std::vector<std::int64_t>& student_steps, const WanExperts& model,
               const std::string& name, const Guidance& guidance) {
  const std::size_t count = student_steps.size();
  return {StrCat(name, " ", count, count == 1 ? " step" : " steps"),
          &model,
          StudentSigmas(student_steps, e.schedule.student_shift),
          guidance,
          {}};
}

Arm StudentArm(const Experiment& e, const std::vector<std::int64_t>& student_steps, const WanExperts& student,
               const std::string& name) {
  Arm arm = FewStepArm(e, student_steps, student, name, 1.0);
  arm.rollout = e.schedule.rollout;
  return arm;
}

void DrawVideos(const Experiment& e, const PromptBank& bank, std::int64_t samples, std::uint64_t seed, Arm& arm) {
  ProgressLine progress("sampling: " + arm.title, samples);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < samples; first += kBatch) {
    const std::int64_t count = std::min(kBatch, samples - first);
    std::vector<Digest> prompts;
    for (std::int64_t i = first; i < first + count; ++i) prompts.push_back(bank.prompts()[i % bank.prompts().size()]);
    const std::int64_t text_len = arm.model->config().text_len;
    const Conditioning condition = bank.ConditionsOf(prompts, text_len), negative{bank.GatherNegative(count, text_len)};
    const auto noise = [&](std::int64_t step) { return NoiseOf(e, seed, step, first, count); };
    batches.push_back(arm.rollout == RolloutForm::kEuler
                          ? EulerSample(*arm.model, noise(0), arm.sigmas, condition, negative, arm.guidance)
                          : RenoiseSample(*arm.model, noise(0), arm.sigmas, noise, condition, negative, arm.guidance));
    progress.Update(first + count);
  }
  progress.Finish();
  arm.videos = at::cat(batches);
}

PictureGrid GridOf(const std::vector<const Arm*>& arms, const std::vector<std::string>& prompts) {
  PictureGrid grid;
  for (const Arm* arm : arms) grid.columns.push_back(arm->title);
  grid.rows = prompts;
  for (std::size_t row = 0; row < prompts.size(); ++row) {
    grid.cells.emplace_back();
    for (const Arm* arm : arms) grid.cells.back().push_back(arm->videos[static_cast<std::int64_t>(row)]);
  }
  return grid;
}

}  // namespace sgmd
