// The roles together, by the serial loop and by themselves.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <map>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/training/fake_score.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/role_model.h"
#include "pipeline/training/teacher.h"
#include "tests/support/serial_loop.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

std::string StateAfter(int steps, const std::string& experiment) { return TinyRun(steps, experiment).SerialState(); }

// Contents of all files, by name.
std::map<std::string, std::string> FilesIn(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename()] = ReadFile(entry.path());
  return files;
}

at::Tensor Weights(const std::filesystem::path& state, const std::string& role) {
  const SafetensorsFile file = SafetensorsFile::Open(state / (role + ".model.safetensors"));
  return CopyToTensor(file.At("head.head.weight"));
}

TEST(InnerSource, FreshAfterDrawsTheSameRolloutsWithTheStudentAfterItsUpdate) {
  TinyRun before(1, "[inner]\nsource = \"fresh\"\n"), after(1, "[inner]\nsource = \"fresh_after\"\n");
  TempFolder folder;
  RunSerially(before.experiment(), folder / "before");
  RunSerially(after.experiment(), folder / "after");
  EXPECT_TRUE(at::equal(Weights(folder / "before", "generator"), Weights(folder / "after", "generator")));
  EXPECT_FALSE(at::equal(Weights(folder / "before", "fake_score"), Weights(folder / "after", "fake_score")));

  // By hand: the student that one step left behind rolls out the tickets of step 0.
  const Experiment e = after.experiment();
  Generator generator(e, at::kCPU);
  generator.LoadState(folder / "after");
  FakeScore fake(e, at::kCPU);
  for (std::int64_t m = 0; m < e.data.micro_batches; ++m) {
    const SamplePlan plan = PlanFreshSample(e, generator.bank(), 0, m, 0);
    fake.samples().AddFresh(0, 0, m, {generator.RollOut(plan).x_g, plan.prompts});
    fake.Accumulate(0, 0, m);
  }
  fake.Update();
  fake.SaveState(folder.path());
  EXPECT_TRUE(at::equal(Weights(folder.path(), "fake_score"), Weights(folder / "after", "fake_score")));
}

TEST(ExitGraph, KeptOrNotGivesTheSameBits) {
  for (const char* lora : {"", "[lora]\nrank = 2\n"}) {
    TinyRun run(4, StrCat("[diversity]\nweight = 0.5\nnoise_bank = 12\n", lora));
    Experiment e = run.experiment();
    e.outer.reuse = 2;
    TempFolder folder;
    RunSerially(e, folder / "again");
    for (const bool blocks : {false, true}) {
      RunSerially(e, folder / "kept", {.checkpoint_blocks = blocks, .keep_exit_graph = true});
      EXPECT_EQ(FilesIn(folder / "kept"), FilesIn(folder / "again")) << lora << blocks;
    }
  }
}

TEST(ExitGraph, IsOfTheWeightsThatRolledOut) {
  TinyRun run(1);
  Generator generator(run.experiment(), at::kCPU);
  const SamplePlan plan = PlanSample(run.experiment(), generator.bank(), 0, 0);
  const Generator::Rollout rollout = generator.RollOut(plan, /*keep_graph=*/true);
  EXPECT_TRUE(at::equal(rollout.exit.x_g, rollout.x_g));
  const at::Tensor gradient = at::ones_like(rollout.x_g);
  generator.Accumulate(plan, {rollout.exit.x}, gradient);
  generator.Update();
  EXPECT_ANY_THROW(generator.Accumulate(plan, rollout.exit, gradient));
}

// The oracle of the processes rolls out with new noise by the formula: so does the generator, bit for bit.
TEST(Rollout, WithNewNoiseAtEachStepIsThatOfTheFormula) {
  TinyRun run(1, "[schedule]\nrollout = \"renoise\"\nexit_weights = [0, 0, 0, 1]\n");
  const Experiment e = run.experiment();
  Generator generator(e, at::kCPU);
  const SamplePlan plan = PlanSample(e, generator.bank(), 0, 0);
  const Generator::Rollout found = generator.RollOut(plan);
  EXPECT_EQ(generator.work().ForwardEquivalents(), 4 * e.data.micro_batch);
  const c10::NoGradGuard no_grad;
  const std::vector<double> sigmas = StudentSigmas(e.schedule.student_steps, e.schedule.student_shift);
  const Conditioning condition = ConditionOn(plan.prompts, generator.bank(), generator.model());
  const auto clean = [&](const at::Tensor& x, double s) {
    return x - s * generator.model().Forward(x, at::full({x.size(0)}, s), condition);
  };
  at::Tensor x = plan.noise;
  for (int i = 0; i < 3; ++i) x = (1 - sigmas[i + 1]) * clean(x, sigmas[i]) + sigmas[i + 1] * plan.step_noise[i];
  EXPECT_TRUE(at::equal(found.exit.x, x));
  EXPECT_TRUE(at::equal(found.x_g, clean(x, sigmas[3])));
}

TEST(RoundedScores, AreBfloat16AndCountAsFloat32) {
  TinyRun run(1, "[precision]\nscores = \"bfloat16\"\n"), plain(1);
  const Experiment e = run.experiment();
  Generator generator(e, at::kCPU);
  Teacher rounding(e, at::kCPU), teacher(plain.experiment(), at::kCPU);
  FakeScore fake(e, at::kCPU);
  const SamplePlan plan = PlanSample(e, generator.bank(), 0, 0);
  const at::Tensor rounded = rounding.Score(plan.noise, plan.score_sigma, plan.prompts),
                   whole = teacher.Score(plan.noise, plan.score_sigma, plan.prompts);
  EXPECT_EQ(rounded.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(rounded, whole.to(at::kBFloat16)));
  const auto gradient = [&](const at::Tensor& velocity) {
    return fake.Gradient(plan.noise, plan.noise, plan.score_sigma, velocity, plan.prompts).gradient;
  };
  EXPECT_TRUE(at::equal(gradient(rounded), gradient(rounded.to(at::kFloat))));
  EXPECT_FALSE(at::equal(gradient(rounded), gradient(whole)));
}

TEST(Alignment, MovesTheFakeScoreTowardsTheStudentAfterEverythingElse) {
  TinyRun plain(1), aligned(1, "[objective]\nalignment = 0.25\n");
  TempFolder folder;
  RunSerially(plain.experiment(), folder / "plain");
  RunSerially(aligned.experiment(), folder / "aligned");
  const at::Tensor theta = Weights(folder / "plain", "generator"), psi = Weights(folder / "plain", "fake_score");
  EXPECT_TRUE(at::equal(Weights(folder / "aligned", "generator"), theta));
  const at::Tensor found = Weights(folder / "aligned", "fake_score");
  EXPECT_TRUE(at::allclose(found, 0.75 * psi + 0.25 * theta, 1e-6, 1e-8));
  EXPECT_FALSE(at::allclose(found, psi, 1e-6, 1e-8));
}

TEST(Alignment, RefusesWeightsOfAnotherModel) {
  TinyRun run(1, "[objective]\nalignment = 0.25\n");
  FakeScore fake(run.experiment(), at::kCPU);
  NamedTensors student = fake.model().trained();
  student.pop_back();
  EXPECT_THROW(fake.Align(student), Error);
  student = fake.model().trained();
  student[3].first = "another";
  EXPECT_THROW(fake.Align(student), Error);
}

// What is written above says only one step; these say that no option is forgotten along the way.
TEST(SerialLoop, HasOtherWeightsWithEachOption) {
  const std::string plain = StateAfter(3, "");
  for (const char* option :
       {"[schedule]\nexit = \"step\"\n", "[schedule]\nrollout = \"renoise\"\n", "[inner]\nsource = \"fresh_after\"\n",
        "[objective]\nweighting = \"paper\"\nweight_cap = 10\n", "[objective]\nalignment = 0.03\n"}) {
    EXPECT_NE(StateAfter(3, option), plain) << option;
    EXPECT_EQ(StateAfter(3, option), StateAfter(3, option)) << option;
  }
}

std::string WarningsOf(const std::string& experiment) {
  TinyRun run(1, experiment);
  testing::internal::CaptureStderr();
  InitLog("test");
  const FakeScore fake(run.experiment(), at::kCPU);
  return testing::internal::GetCapturedStderr();
}

TEST(FakeScore, WarnsOfThePaperWeightWithoutACap) {
  EXPECT_NE(WarningsOf("[objective]\nweighting = \"paper\"\n").find("without weight_cap"), std::string::npos);
  EXPECT_EQ(WarningsOf("[objective]\nweighting = \"paper\"\nweight_cap = 10\n"), "");
  EXPECT_EQ(WarningsOf("[objective]\nname = \"dmd2\"\nweighting = \"paper\"\n"), "");
  EXPECT_EQ(WarningsOf(""), "");
}

}  // namespace
}  // namespace sgmd
