#include "pipeline/objectives/terms.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "common/config/experiment.h"
#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/objectives/shared_pass.h"
#include "tests/support/tiny_config.h"

namespace sgmd {
namespace {

// A model in float64 and a scored sample, small enough for finite differences.
class ObjectiveTest : public testing::Test {
 protected:
  ObjectiveTest() : fake_(TinyWanConfig(1), at::kCPU, at::kDouble) {
    fake_.Initialise(3);
    const c10::NoGradGuard no_grad;
    for (const auto& [name, p] : fake_.parameters()) {
      if (name == "head.head.weight") p.copy_(Noise(p.sizes(), 4) * 0.3);
    }
    x_g_ = Draw(5);
    noise_ = Draw(6);
    sigma_ = at::tensor({0.3, 0.7}, at::kDouble);
    velocity_ = Draw(7);
    context_ = Noise({2, 4, 6}, 8).to(at::kDouble);
  }
  static at::Tensor Draw(std::uint64_t seed) { return Noise({2, 2, 2, 2, 2}, seed).to(at::kDouble); }

  ScoredSample Sample() const { return {x_g_, AddNoise(x_g_, noise_, sigma_), sigma_, velocity_, {context_}}; }

  // The loss as a function of x_g with everything stopped that the objective stops: x_r, the weight, and of the
  // negative residual x_g and d. x_s and x_f move with x_g.
  double StoppedLoss(const at::Tensor& x_g, const ObjectiveSettings& o) const {
    const c10::NoGradGuard no_grad;
    const ScoredSample s = Sample();
    const at::Tensor sig = Broadcast(sigma_, x_g_);
    const auto x_f_at = [&](const at::Tensor& x) { return x - sig * fake_.Forward(x, sigma_, {context_}); };
    const at::Tensor x_f = x_f_at(AddNoise(x_g, noise_, sigma_)), x_r = s.x_s - sig * velocity_;
    const bool paper = o.weighting == Weighting::kPaper;
    const at::Tensor n = (x_g_ - x_r).abs().mean({1, 2, 3, 4}, true) + 1e-8;
    at::Tensor w = paper ? (1 - sig).pow(2) / sig.pow(4) : 1 / n;
    if (paper && o.weight_cap > 0) w = at::minimum(w, at::full_like(w, o.weight_cap));
    if (o.name == Objective::kTsgSim) return (w * (x_r - x_f) * (x_f - x_g)).mean().item<double>();
    const at::Tensor fisher = 0.5 * (w * (x_f - x_r).pow(2)).mean();
    if (o.name == Objective::kTsgFisher) return fisher.item<double>();
    const at::Tensor d = (x_f_at(s.x_s) - x_g_) / sig;
    const at::Tensor residual = paper ? 0.5 * (x_g_ - x_f).pow(2).mean() : (d * x_f).mean();
    return (fisher - o.lambda * residual).item<double>();
  }

  void ExpectGradientOfStoppedLoss(const ObjectiveSettings& o) {
    const at::Tensor gradient = ComputeGeneratorGradient(o, fake_, Sample()).gradient;
    for (const std::int64_t i : {0, 5, 13, 18, 31}) {
      constexpr double kStep = 1e-5;
      at::Tensor up = x_g_.clone(), down = x_g_.clone();
      up.view(-1)[i] += kStep;
      down.view(-1)[i] -= kStep;
      const double numeric = (StoppedLoss(up, o) - StoppedLoss(down, o)) / (2 * kStep);
      EXPECT_NEAR(gradient.view(-1)[i].item<double>(), numeric, 1e-7 + 1e-5 * std::abs(numeric))
          << Spell(o.name) << " " << i;
    }
  }

  WanTransformer fake_;
  at::Tensor x_g_, noise_, sigma_, velocity_, context_;
};

// Both gradients from one pass are those of two passes, for every objective, with and without checkpointed blocks.
TEST_F(ObjectiveTest, ASharedPassGivesTheGradientsOfTwo) {
  const auto parameter_gradients = [&] {
    std::vector<at::Tensor> all;
    for (const auto& [name, p] : fake_.parameters()) all.push_back(p.grad().clone());
    for (const auto& [name, p] : fake_.parameters()) p.mutable_grad() = at::Tensor();
    return all;
  };
  for (const auto name : {Objective::kSgmd, Objective::kDmd2, Objective::kTsgFisher, Objective::kTsgSim}) {
    for (const bool checkpointed : {false, true}) {
      fake_.SetBlockCheckpointing(checkpointed);
      const ObjectiveSettings settings{name, Weighting::kLightx2v, 0.5};
      fake_.SetRequiresGrad(false);
      const GeneratorGradient expected = ComputeGeneratorGradient(settings, fake_, Sample());
      fake_.SetRequiresGrad(true);
      ResidualContractionLoss(fake_, x_g_, sigma_, noise_, {context_}, settings.weighting).backward();
      const std::vector<at::Tensor> own = parameter_gradients();

      const SharedPass pass(fake_);
      const GeneratorGradient found = ComputeGeneratorGradient(settings, pass, Sample());
      for (const auto& [name, p] : fake_.parameters()) EXPECT_FALSE(p.grad().defined()) << name;
      ResidualContractionLoss(pass.velocity(), Sample().x_s, x_g_, sigma_, noise_, settings.weighting).backward();
      EXPECT_TRUE(at::allclose(found.gradient, expected.gradient, 1e-10, 1e-12)) << Spell(name) << checkpointed;
      EXPECT_EQ(found.terms, expected.terms);
      const std::vector<at::Tensor> shared = parameter_gradients();
      for (std::size_t i = 0; i < own.size(); ++i)
        EXPECT_TRUE(at::allclose(shared[i], own[i], 1e-10, 1e-12)) << fake_.parameters()[i].first;
    }
  }
}

TEST_F(ObjectiveTest, TsgFisherMatchesFiniteDifferences) {
  ExpectGradientOfStoppedLoss({Objective::kTsgFisher, Weighting::kPaper, 0.5});  // lambda is not its business
  ExpectGradientOfStoppedLoss({Objective::kTsgFisher, Weighting::kLightx2v, 0.5});
}

// At sigma 0.3 the weight is 60.5, at 0.7 it is 0.375: the cap holds one of the two samples.
TEST_F(ObjectiveTest, CappedPaperWeightMatchesFiniteDifferences) {
  const ObjectiveSettings capped{Objective::kTsgFisher, Weighting::kPaper, 0.0, 2.0};
  ExpectGradientOfStoppedLoss(capped);
  ExpectGradientOfStoppedLoss({Objective::kTsgSim, Weighting::kPaper, 0.0, 2.0});
  const at::Tensor with = ComputeGeneratorGradient(capped, fake_, Sample()).gradient;
  const at::Tensor without =
      ComputeGeneratorGradient({Objective::kTsgFisher, Weighting::kPaper}, fake_, Sample()).gradient;
  EXPECT_TRUE(at::allclose(with[0] * (0.49 / 0.0081 / 2), without[0]));
  EXPECT_TRUE(at::equal(with[1], without[1]));
}

TEST(PaperWeight, IsAlphaSquaredOverSigmaToTheFourth) {
  const at::Tensor sigma = at::tensor({0.02, 0.5, 0.98}, at::kDouble);
  EXPECT_TRUE(at::allclose(PaperWeight(sigma, 0), at::tensor({6002500.0, 4.0, 4.33664e-4}, at::kDouble), 1e-5));
  EXPECT_TRUE(at::allclose(PaperWeight(sigma, 3), at::tensor({3.0, 3.0, 4.33664e-4}, at::kDouble), 1e-5));
}

TEST_F(ObjectiveTest, TsgSimMatchesFiniteDifferences) {
  ExpectGradientOfStoppedLoss({Objective::kTsgSim, Weighting::kPaper, 0.5});
  ExpectGradientOfStoppedLoss({Objective::kTsgSim, Weighting::kLightx2v, 0.5});
}

TEST_F(ObjectiveTest, SgmdWithoutNegativeResidualIsTsgFisher) {
  for (Weighting weighting : {Weighting::kPaper, Weighting::kLightx2v}) {
    const at::Tensor sgmd = ComputeGeneratorGradient({Objective::kSgmd, weighting, 0.0}, fake_, Sample()).gradient;
    const at::Tensor fisher =
        ComputeGeneratorGradient({Objective::kTsgFisher, weighting, 0.0}, fake_, Sample()).gradient;
    EXPECT_TRUE(at::allclose(sgmd, fisher));
  }
}

TEST_F(ObjectiveTest, FisherWithNegativeResidualMatchesFiniteDifferences) {
  ExpectGradientOfStoppedLoss({Objective::kSgmd, Weighting::kPaper, 0.5});
  ExpectGradientOfStoppedLoss({Objective::kSgmd, Weighting::kLightx2v, 0.5});
}

TEST_F(ObjectiveTest, NegativeResidualAloneHasTheStatedValueAndGradient) {
  const at::Tensor x_f = Draw(9).requires_grad_(true);
  const at::Tensor d = ((x_f - x_g_) / Broadcast(sigma_, x_f)).detach();
  const at::Tensor scaled = NegativeResidualTerm(x_f, x_g_, sigma_, Weighting::kLightx2v);
  EXPECT_NEAR(scaled.item<double>(), 0.5 * d.square().mean().item<double>(), 1e-12);
  EXPECT_TRUE(at::allclose(torch::autograd::grad({scaled}, {x_f})[0], d / 32.0));
  const at::Tensor plain = NegativeResidualTerm(x_f, x_g_, sigma_, Weighting::kPaper);
  EXPECT_TRUE(at::allclose(torch::autograd::grad({plain}, {x_f})[0], (x_f - x_g_).detach() / 32.0));
}

TEST_F(ObjectiveTest, Dmd2IsTheNormalisedDetachedDifference) {
  const ScoredSample s = Sample();
  const at::Tensor sig = Broadcast(sigma_, x_g_);
  const at::Tensor x_f = s.x_s - sig * fake_.Forward(s.x_s, sigma_, {context_}), x_r = s.x_s - sig * velocity_;
  const at::Tensor expected = (x_f - x_r) / ((x_g_ - x_r).abs().mean({1, 2, 3, 4}, true) + 1e-8) / 32.0;
  EXPECT_TRUE(
      at::allclose(ComputeGeneratorGradient({Objective::kDmd2, Weighting::kLightx2v, 0}, fake_, s).gradient, expected));
}

TEST_F(ObjectiveTest, ComputesNoParameterGradientOfTheFakeScore) {
  fake_.SetRequiresGrad(true);  // even if somebody forgot to switch them off
  for (Objective objective : {Objective::kSgmd, Objective::kDmd2, Objective::kTsgFisher, Objective::kTsgSim}) {
    ComputeGeneratorGradient({objective, Weighting::kLightx2v, 0.1}, fake_, Sample());
    for (const auto& [name, p] : fake_.parameters())
      EXPECT_FALSE(p.grad().defined()) << Spell(objective) << " " << name;
  }
}

class ResidualContraction : public ObjectiveTest, public testing::WithParamInterface<Weighting> {
 protected:
  at::Tensor Loss() const { return ResidualContractionLoss(fake_, x_g_, sigma_, noise_, {context_}, GetParam()); }
};

TEST_P(ResidualContraction, HasTheStatedValueAndGradient) {
  fake_.SetRequiresGrad(true);
  const at::Tensor loss = Loss();
  const at::Tensor x = AddNoise(x_g_, noise_, sigma_);
  const at::Tensor velocity = fake_.Forward(x, sigma_, {context_}), sig = Broadcast(sigma_, x);
  const at::Tensor error = GetParam() == Weighting::kPaper ? x_g_ - (x - sig * velocity) : velocity - (noise_ - x_g_);
  EXPECT_NEAR(loss.item<double>(), 0.5 * error.square().mean().item<double>(), 1e-12);
  loss.backward();
  constexpr double kStep = 1e-6;
  int checked = 0;
  for (const auto& [name, p] : fake_.parameters()) {
    const at::Tensor flat = p.detach().view(-1), gradient = p.grad().view(-1);
    const std::int64_t i = gradient.abs().argmax().item<std::int64_t>();
    const c10::NoGradGuard no_grad;
    const double before = flat[i].item<double>();
    flat[i].fill_(before + kStep);
    const double up = Loss().item<double>();
    flat[i].fill_(before - kStep);
    const double numeric = (up - Loss().item<double>()) / (2 * kStep);
    flat[i].fill_(before);
    EXPECT_NEAR(gradient[i].item<double>(), numeric, 1e-8 + 1e-5 * std::abs(numeric)) << name;
    checked += numeric != 0 ? 1 : 0;
  }
  EXPECT_GT(checked, 10);
}

INSTANTIATE_TEST_SUITE_P(Weightings, ResidualContraction, testing::Values(Weighting::kLightx2v, Weighting::kPaper),
                         [](const auto& info) { return Spell(info.param); });

TEST_F(ObjectiveTest, PaperResidualContractionIsSigmaSquaredTimesTheVelocitys) {
  const at::Tensor sigma = at::full({2}, 0.3, at::kDouble);
  const auto loss = [&](Weighting weighting) {
    return ResidualContractionLoss(fake_, x_g_, sigma, noise_, {context_}, weighting).item<double>();
  };
  EXPECT_NEAR(loss(Weighting::kPaper), 0.09 * loss(Weighting::kLightx2v), 1e-12);
}

}  // namespace
}  // namespace sgmd
