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

}  // namespace

Arm TeacherArm(const Experiment& e, const WanTransformer& teacher, std::int64_t steps, double guidance) {
  return {StrCat("teacher ", steps, " steps"), &teacher, UniformSigmas(steps, e.schedule.student_shift), guidance, {}};
}

Arm FewStepArm(const Experiment& e, const std::vector<std::int64_t>& student_steps, const WanTransformer& model,
               const std::string& name, double guidance) {
  const std::size_t count = student_steps.size();
  return {StrCat(name, " ", count, count == 1 ? " step" : " steps"),
          &model,
          StudentSigmas(student_steps, e.schedule.student_shift),
          guidance,
          {}};
}

void DrawVideos(const Experiment& e, const PromptBank& bank, std::int64_t samples, std::uint64_t seed, Arm& arm) {
  ProgressLine progress("sampling: " + arm.title, samples);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < samples; first += kBatch) {
    const std::int64_t count = std::min(kBatch, samples - first);
    std::vector<Digest> prompts;
    std::vector<at::Tensor> noise;
    for (std::int64_t i = first; i < first + count; ++i) {
      prompts.push_back(bank.prompts()[i % bank.prompts().size()]);
      noise.push_back(Noise(e.data.latent, SeedFor(seed, 0, i, "evaluation_noise")));
    }
    const std::int64_t text_len = arm.model->config().text_len;
    batches.push_back(EulerSample(*arm.model, at::stack(noise), arm.sigmas, {bank.Gather(prompts, text_len)},
                                  {bank.GatherNegative(count, text_len)}, arm.guidance));
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
