// The evaluator draws a student as it was trained, and the teacher by Euler.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nodes/evaluator/arms.h"
#include "nodes/evaluator/preview_set.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "tests/support/latent_run.h"

namespace sgmd {
namespace {

constexpr char kRenoise[] = "[schedule]\nrollout = \"renoise\"\n";

// Of sample i of `seed`, by the noise that the evaluator's headers promise: a function of (seed, sample, step).
at::Tensor Renoised(const Experiment& e, const WanExperts& student, const Conditioning& condition, std::uint64_t seed,
                    std::int64_t i) {
  const auto noise = [&](std::int64_t step) {
    return Noise(e.data.latent, SeedFor(seed, step, i, "evaluation_noise")).unsqueeze(0);
  };
  return RenoiseSample(student, noise(0), StudentSigmas(e.schedule.student_steps, e.schedule.student_shift), noise,
                       condition, {}, 1.0);
}

Conditioning PromptOf(const PromptBank& bank, std::int64_t i, const WanExperts& model) {
  return {bank.Gather({bank.prompts()[i]}, model.config().text_len)};
}

TEST(StudentVideos, OfAnArmHaveNewNoiseAtEachStepWhereTheStudentWasTrainedSo) {
  TinyRun run(1, kRenoise);
  const Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  const WanExperts model(WanTransformer::Load(e.model.teacher, at::kCPU));
  Arm student = StudentArm(e, e.schedule.student_steps, model),
      teacher = FewStepArm(e, e.schedule.student_steps, model, "teacher", 1.0);
  EXPECT_EQ(student.title, "student 4 steps");
  for (Arm* arm : {&student, &teacher}) DrawVideos(e, bank, 3, /*seed=*/5, *arm);
  for (std::int64_t i = 0; i < 3; ++i) {
    const Conditioning condition = PromptOf(bank, i, model);
    EXPECT_TRUE(at::allclose(student.videos[i], Renoised(e, model, condition, 5, i)[0], 1e-4, 1e-5)) << i;
    const at::Tensor noise = Noise(e.data.latent, SeedFor(5, 0, i, "evaluation_noise")).unsqueeze(0);
    const at::Tensor euler = EulerSample(model, noise, teacher.sigmas, condition, {}, 1.0);
    EXPECT_TRUE(at::allclose(teacher.videos[i], euler[0], 1e-4, 1e-5)) << i;
  }
  EXPECT_FALSE(at::allclose(student.videos, teacher.videos, 1e-2, 1e-2));
}

TEST(StudentVideos, OfPreviewsHaveNewNoiseAtEachStepWhereTheStudentWasTrainedSo) {
  for (const char* experiment : {"", kRenoise}) {
    LatentRun run(1, "", experiment);
    const Experiment e = run.experiment();
    Topology::Evaluator settings;
    settings.vae = run.folder() / "vae";
    settings.videos = 8;  // every prompt
    const PreviewSet set(e, settings, at::kCPU);
    const PromptBank bank = PromptBank::Open(e.model.prompts);
    const WanExperts model(WanTransformer::Load(e.model.teacher, at::kCPU));
    const std::vector<double> sigmas = StudentSigmas(e.schedule.student_steps, e.schedule.student_shift);
    const std::vector<at::Tensor> drawn = set.DrawStudent(model, "student"),
                                  euler = set.Draw(model, sigmas, 1.0, "euler");
    ASSERT_EQ(drawn.size(), 8U);
    for (std::int64_t i = 0; i < 8; ++i) {
      const at::Tensor renoised = Renoised(e, model, PromptOf(bank, i, model), PreviewSet::kSeed, i);
      const bool renoises = e.schedule.rollout == RolloutForm::kRenoise;
      EXPECT_TRUE(at::equal(drawn[i], renoises ? renoised : euler[i])) << experiment << i;
      EXPECT_FALSE(at::equal(drawn[i], renoises ? euler[i] : renoised)) << experiment << i;
    }
  }
}

}  // namespace
}  // namespace sgmd
