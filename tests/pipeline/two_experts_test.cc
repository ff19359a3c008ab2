// Models of two experts by noise level: what is drawn for them, and what the roles do with them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_experts.h"
#include "pipeline/training/fake_score.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/teacher.h"
#include "tests/support/experts_run.h"

namespace sgmd {
namespace {

constexpr double kBoundary = 0.875;

PromptBank BankOf(const Experiment& e) { return PromptBank::Open(e.model.prompts); }

std::set<bool> SidesOf(const at::Tensor& sigmas) {
  std::set<bool> sides;
  for (std::int64_t i = 0; i < sigmas.numel(); ++i) sides.insert(sigmas[i].item<double>() >= kBoundary);
  return sides;
}

TEST(DrawsOfTwoExperts, AreOnOneSideOfTheBoundaryForAWholeIteration) {
  ExpertsRun run(1);
  const Experiment e = run.experiment();
  const PromptBank bank = BankOf(e);
  std::set<bool> exits, scores, inner;
  for (std::int64_t step = 0; step < 40; ++step) {
    std::set<bool> exits_of_step, scores_of_step, inner_of_step;
    for (std::int64_t index = 0; index < e.data.micro_batches; ++index) {
      const SamplePlan plan = PlanSample(e, bank, step, index);
      exits_of_step.insert(plan.exit_step < 2);
      scores_of_step.merge(SidesOf(plan.score_sigma));
      inner_of_step.merge(SidesOf(PlanInner(e, step, index, 0).sigma));
    }
    EXPECT_EQ(exits_of_step.size(), 1U) << step;
    EXPECT_EQ(scores_of_step.size(), 1U) << step;
    EXPECT_EQ(inner_of_step.size(), 1U) << step;
    exits.merge(exits_of_step);
    scores.merge(scores_of_step);
    inner.merge(inner_of_step);
  }
  EXPECT_EQ(exits.size() + scores.size() + inner.size(), 6U) << "both sides come";
}

// Of 1000 timesteps at shift 5 those from 584 on are at or above 0.875.
TEST(DrawsOfTwoExperts, ComeAsOftenAsWithoutABoundary) {
  ExpertsRun run(1);
  Experiment e = run.experiment();
  e.data.micro_batch = 1;
  const PromptBank bank = BankOf(e);
  constexpr int kDraws = 2000;
  std::vector<int> exits(4);
  double high = 0, sum = 0, plain = 0;
  for (std::int64_t step = 0; step < kDraws; ++step) {
    const SamplePlan plan = PlanSample(e, bank, step, 0);
    ++exits[plan.exit_step];
    high += plan.score_sigma.item<double>() >= kBoundary;
    sum += plan.score_sigma.item<double>();
    Experiment without = e;
    without.model.boundary = 0;
    plain += PlanSample(without, bank, step, 0).score_sigma.item<double>();
  }
  EXPECT_NEAR(high / kDraws, 0.416, 3 * std::sqrt(0.416 * 0.584 / kDraws));
  EXPECT_NEAR(sum / kDraws, plain / kDraws, 0.02);
  for (const int count : exits) EXPECT_NEAR(count, kDraws / 4, 3 * std::sqrt(kDraws * 3 / 16.0));
}

TEST(DrawsOfTwoExperts, AreOfTheOneThatIsTrained) {
  for (const bool high : {true, false}) {
    ExpertsRun run(1, StrCat("[schedule]\nexperts = \"", high ? "high" : "low", "_noise\"\n"));
    const Experiment e = run.experiment();
    const PromptBank bank = BankOf(e);
    for (std::int64_t step = 0; step < 20; ++step) {
      const SamplePlan plan = PlanSample(e, bank, step, 0);
      EXPECT_EQ(plan.exit_step < 2, high);
      EXPECT_EQ(SidesOf(plan.score_sigma), std::set<bool>{high});
      EXPECT_EQ(SidesOf(PlanInner(e, step, 0, 0).sigma), std::set<bool>{high});
    }
  }
}

TEST(TeacherOfTwoExperts, AnswersWithTheOneForTheNoiseLevelAndItsGuidance) {
  ExpertsRun run(1, "", "", 3, "guidance_low = 3.5\n");
  const Experiment e = run.experiment();
  Teacher teacher(e, at::kCPU);
  const SamplePlan plan = PlanSample(e, BankOf(e), 0, 0);
  const PromptBank bank = BankOf(e);
  for (const Expert& expert : FindExperts(run.folder() / "experts")) {
    const WanTransformer model = WanTransformer::Load(expert.model, at::kCPU);
    const double sigma = expert.min_sigma > 0 ? kBoundary : 0.8;
    const at::Tensor sigmas = at::full({2}, sigma, at::kFloat);
    const std::vector<Digest> none(2, bank.negative());
    const at::Tensor expected = GuidedVelocity(model, plan.noise, sigmas, {bank.Gather(plan.prompts, 8)},
                                               {bank.Gather(none, 8)}, expert.min_sigma > 0 ? 2 : 3.5);
    EXPECT_TRUE(at::equal(teacher.Score(plan.noise, sigmas, plan.prompts), expected)) << expert.name;
  }
}

TEST(TeacherOfTwoExperts, GuidesAnAnchorByNoiseLevel) {
  const Guidance both(2, 3.5, kBoundary);
  EXPECT_EQ(both.At(kBoundary), 2);
  EXPECT_EQ(both.At(0.99 * kBoundary), 3.5);
  EXPECT_EQ(both.Formula(), "u + 2 (c - u), below sigma 0.875 u + 3.5 (c - u)");
  ExpertsRun run(1, "", "", 3, "guidance_low = 3.5\n");
  const Experiment e = run.experiment();
  const WanExperts teacher = WanExperts::Load(FindExperts(e.model.teacher, e.model.boundary), at::kCPU);
  const SamplePlan plan = PlanSample(e, BankOf(e), 0, 0);
  const Conditioning text{BankOf(e).Gather(plan.prompts, 8)}, none{-text.text};
  const std::vector<double> sigmas{1, kBoundary, 0.5, 0};
  const auto to = [&](const at::Tensor& from, std::size_t i, double guidance) {
    return EulerSample(teacher, from, {sigmas[i], sigmas[i + 1]}, text, none, guidance);
  };
  EXPECT_TRUE(at::equal(EulerSample(teacher, plan.noise, sigmas, text, none, GuidanceOf(e)),
                        to(to(to(plan.noise, 0, 2), 1, 2), 2, 3.5)));
}

// A step that is on one side, of the generator's exits.
std::int64_t StepOnSide(const Experiment& e, bool high) {
  const PromptBank bank = BankOf(e);
  for (std::int64_t step = 0;; ++step) {
    if ((PlanSample(e, bank, step, 0).exit_step < 2) == high) return step;
  }
}

NamedTensors Copies(const NamedTensors& tensors) {
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors) copies.emplace_back(name, tensor.detach().clone());
  return copies;
}

bool Moved(const NamedTensors& before, const NamedTensors& after, const std::string& prefix) {
  bool moved = false;
  for (std::size_t i = 0; i < before.size(); ++i)
    moved |= before[i].first.starts_with(prefix) && !at::equal(before[i].second, after[i].second);
  return moved;
}

void Train(Generator& generator, const Experiment& e, std::int64_t step) {
  for (const std::int32_t index : SamplesByExit(e, step)) {
    const SamplePlan plan = PlanSample(e, generator.bank(), step, index);
    generator.Accumulate(plan, generator.RollOut(plan).exit, plan.score_noise);
  }
  generator.Update();
}

// As if the expert were trained by itself: the other's updates leave no trace in it, nor in its optimizer.
TEST(GeneratorOfTwoExperts, TrainsEachAsAModelOfItsOwn) {
  ExpertsRun run(1);
  const Experiment e = run.experiment();
  Experiment of_high = e;
  of_high.model.teacher = run.folder() / "alone";
  std::filesystem::copy(run.folder() / "experts" / kHighNoiseExpert, of_high.model.teacher);
  Generator both(e, at::kCPU), alone(of_high, at::kCPU);
  const std::int64_t high = StepOnSide(e, true), low = StepOnSide(e, false);
  Train(alone, e, high);
  Train(alone, e, high);

  const NamedTensors start = Copies(both.model().trained());
  Train(both, e, high);
  EXPECT_TRUE(Moved(start, both.model().trained(), kHighNoiseExpert));
  EXPECT_FALSE(Moved(start, both.model().trained(), kLowNoiseExpert));
  const NamedTensors between = Copies(both.model().trained());
  Train(both, e, low);
  EXPECT_FALSE(Moved(between, both.model().trained(), kHighNoiseExpert));
  EXPECT_TRUE(Moved(between, both.model().trained(), kLowNoiseExpert));
  Train(both, e, high);
  for (std::size_t i = 0; i < alone.model().trained().size(); ++i) {
    const auto& [name, tensor] = both.model().trained()[i];
    EXPECT_EQ(name, StrCat(kHighNoiseExpert, ".", alone.model().trained()[i].first));
    EXPECT_TRUE(at::equal(tensor, alone.model().trained()[i].second)) << name;
  }
}

TEST(GeneratorOfTwoExperts, GoesOnFromItsStateToTheSameBits) {
  ExpertsRun run(1);
  const Experiment e = run.experiment();
  TempFolder folder;
  Generator first(e, at::kCPU), second(e, at::kCPU);
  for (const std::int64_t step : {0, 1, 2, 3}) Train(first, e, step);
  first.SaveState(folder.path());
  second.LoadState(folder.path());
  for (const std::int64_t step : {4, 5, 6}) {
    Train(first, e, step);
    Train(second, e, step);
  }
  TempFolder one, other;
  for (const std::string& name : first.SaveState(one.path())) {
    second.SaveState(other.path());
    EXPECT_EQ(ReadFile(one / name), ReadFile(other / name)) << name;
  }
}

TEST(FakeScoreOfTwoExperts, TrainsTheOneThatTheNoiseLevelsAreFor) {
  ExpertsRun run(1);
  const Experiment e = run.experiment();
  FakeScore fake(e, at::kCPU);
  for (std::int64_t step = 0; step < 4; ++step) {
    const SamplePlan plan = PlanSample(e, BankOf(e), step, 0);
    const bool high = *SidesOf(PlanInner(e, step, 0, 0).sigma).begin();
    const NamedTensors before = Copies(fake.model().trained());
    fake.Gradient(plan.noise, plan.noise, plan.score_sigma, plan.score_noise, plan.prompts);  // trains nothing
    fake.Accumulate(step, 0, 0, InnerSample{plan.noise, plan.prompts});
    fake.Update();
    EXPECT_EQ(Moved(before, fake.model().trained(), kHighNoiseExpert), high) << step;
    EXPECT_EQ(Moved(before, fake.model().trained(), kLowNoiseExpert), !high) << step;
  }
}

}  // namespace
}  // namespace sgmd
