#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "pipeline/training/adamw.h"
#include "pipeline/training/stability.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

OptimizerConfig Config(double beta1) {
  OptimizerConfig config;
  config.learning_rate = 0.1;
  config.beta1 = beta1;
  config.beta2 = 0.9;
  config.weight_decay = 0.01;
  config.clip_norm = 1e9;
  return config;
}

// Two updates of one number by the textbook formula.
double Textbook(double beta1) {
  double p = 1, m = 0, v = 0;
  int t = 0;
  for (const double g : {0.5, -0.2}) {
    ++t;
    m = beta1 * m + (1 - beta1) * g;
    v = 0.9 * v + 0.1 * g * g;
    p *= 1 - 0.1 * 0.01;
    p -= 0.1 * (m / (1 - std::pow(beta1, t))) / (std::sqrt(v / (1 - std::pow(0.9, t))) + 1e-8);
  }
  return p;
}

class AdamWTest : public testing::TestWithParam<double> {};

TEST_P(AdamWTest, FollowsTheTextbook) {
  at::Tensor p = at::ones({1}).requires_grad_(true);
  AdamW adamw({{"p", p}}, Config(GetParam()));
  for (const double g : {0.5, -0.2}) {
    p.mutable_grad() = at::full({1}, g);
    adamw.Step();
    EXPECT_FALSE(p.grad().defined());
  }
  EXPECT_NEAR(p.item<double>(), Textbook(GetParam()), 1e-6);
}
INSTANTIATE_TEST_SUITE_P(Beta1, AdamWTest, testing::Values(0.0, 0.9));

// Parameters of many sizes, clipped, with an average: the same as ATen's operations in turn, up to rounding.
TEST_P(AdamWTest, InOnePassGivesWhatATenGives) {
  OptimizerConfig config = Config(GetParam());
  config.clip_norm = 3;
  std::vector<NamedTensors> found;
  for (const Kernels kernels : {Kernels::kFused, Kernels::kReference}) {
    at::manual_seed(3);
    NamedTensors parameters;
    for (const std::int64_t size : {1, 7, 16, 1000, 40001}) {
      parameters.emplace_back(std::to_string(size), at::randn({size}).requires_grad_(true));
    }
    AdamW adamw(parameters, config, GlobalNorm, kernels);
    Ema ema(parameters, 0.9);
    for (int step = 0; step < 5; ++step) {
      for (auto& [name, p] : parameters) {
        if (step > 0 || name != "16") p.mutable_grad() = at::randn(p.sizes());
      }
      EXPECT_FALSE(adamw.Step(0.1, &ema).skipped);
    }
    NamedTensors all = adamw.State(), average = ema.State();
    all.insert(all.end(), average.begin(), average.end());
    for (const auto& [name, p] : parameters) all.emplace_back(name, p.detach());
    found.push_back(all);
  }
  for (std::size_t i = 0; i < found[0].size(); ++i) {
    const at::Tensor &a = found[0][i].second, &b = found[1][i].second;
    EXPECT_LE((a - b).abs().max().item<double>(), 2e-6 * b.abs().max().item<double>()) << found[0][i].first;
  }
}

TEST(AdamW, AGraphKnowsThatItsParameterWasUpdated) {
  at::Tensor p = at::ones({4}).requires_grad_(true);
  const at::Tensor loss = (p * p).sum();
  AdamW adamw({{"p", p}}, Config(0.0));
  p.mutable_grad() = at::ones({4});
  adamw.Step();
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(AdamW, StoresNoFirstMomentAtBeta1Zero) {
  const at::Tensor p = at::ones({4});
  EXPECT_EQ(AdamW({{"p", p}}, Config(0.0)).State().size(), 2U);  // v, steps
  EXPECT_EQ(AdamW({{"p", p}}, Config(0.9)).State().size(), 3U);  // v, m, steps
}

TEST(AdamW, ClipsByTheGlobalNormAndWarmsUp) {
  OptimizerConfig config = Config(0.9);
  config.clip_norm = 1;
  config.warmup_steps = 4;
  at::Tensor a = at::ones({1}).requires_grad_(true), b = at::ones({1}).requires_grad_(true);
  AdamW adamw({{"a", a}, {"b", b}}, config);
  a.mutable_grad() = at::full({1}, 3.0);
  b.mutable_grad() = at::full({1}, 4.0);
  const auto report = adamw.Step();
  EXPECT_NEAR(report.gradient_norm, 5, 1e-6);
  EXPECT_NEAR(report.learning_rate, 0.1 / 4, 1e-12);
  for (const auto& [name, tensor] : adamw.State()) {
    if (name == "a.m") {
      EXPECT_NEAR(tensor.item<float>(), 0.1 * 3.0 / 5, 1e-6);
    }
  }
}

TEST(RateFraction, RisesOverTheWarmUpAndFallsToItsEnd) {
  OptimizerConfig config;
  EXPECT_EQ(RateFraction(config, 1), 1);
  config.warmup_steps = 10;
  EXPECT_EQ(RateFraction(config, 3), 0.3);
  EXPECT_EQ(RateFraction(config, 10), 1);
  EXPECT_EQ(RateFraction(config, 1000), 1);
  config.decay_steps = 110;
  config.final_fraction = 0.2;
  for (const RateDecay decay : {RateDecay::kLinear, RateDecay::kCosine}) {
    config.decay = decay;
    EXPECT_EQ(RateFraction(config, 3), 0.3);
    EXPECT_DOUBLE_EQ(RateFraction(config, 10), 1);
    EXPECT_DOUBLE_EQ(RateFraction(config, 60), 0.6);  // half of the way
    EXPECT_EQ(RateFraction(config, 110), 0.2);
    EXPECT_EQ(RateFraction(config, 111), 0.2);
  }
  config.decay = RateDecay::kLinear;
  EXPECT_DOUBLE_EQ(RateFraction(config, 35), 0.8);
  config.decay = RateDecay::kCosine;
  EXPECT_DOUBLE_EQ(RateFraction(config, 35), 0.2 + 0.8 * (1 + std::sqrt(0.5)) / 2);
}

TEST(AdamW, UsesTheFallingRateAlsoAfterACheckpoint) {
  TempFolder folder;
  OptimizerConfig config = Config(0.9);
  config.decay = RateDecay::kLinear;
  config.decay_steps = 4;
  const auto rate = [](AdamW& adamw, at::Tensor& p) {
    p.mutable_grad() = at::full({3}, 0.5);
    return adamw.Step().learning_rate;
  };
  at::Tensor p = at::ones({3}).requires_grad_(true);
  AdamW straight({{"p", p}}, config);
  EXPECT_DOUBLE_EQ(rate(straight, p), 0.1 * 0.75);
  SaveTensors(folder / "s.safetensors", straight.State());
  at::Tensor q = p.detach().clone().requires_grad_(true);
  AdamW resumed({{"p", q}}, config);
  resumed.LoadState(SafetensorsFile::Open(folder / "s.safetensors"));
  for (const double expected : {0.05, 0.025, 0.0, 0.0}) {
    EXPECT_DOUBLE_EQ(rate(straight, p), expected);
    EXPECT_DOUBLE_EQ(rate(resumed, q), expected);
  }
  EXPECT_TRUE(at::equal(p, q));
}

TEST(AdamW, SkipsAStepWhoseGradientIsNotFinite) {
  OptimizerConfig config;
  config.learning_rate = 0.1;
  at::Tensor a = at::ones({2}).requires_grad_(true), b = at::ones({1}).requires_grad_(true);
  AdamW adamw({{"a", a}, {"b", b}}, config);
  a.mutable_grad() = at::full({2}, 3.0);
  b.mutable_grad() = at::full({1}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(adamw.Step().skipped);
  EXPECT_TRUE(at::equal(a, at::ones({2})));
  EXPECT_FALSE(a.grad().defined());
  EXPECT_EQ(adamw.steps(), 0);
  for (const auto& [name, tensor] : adamw.State()) EXPECT_EQ(tensor.abs().sum().item<double>(), 0) << name;
  a.mutable_grad() = at::full({2}, 3.0);
  EXPECT_FALSE(adamw.Step().skipped);
  EXPECT_EQ(adamw.steps(), 1);
}

TEST(StabilityMonitor, AsksForTheCheckpointAfterThreeSkipsInARow) {
  StabilityMonitor monitor("generator", "generator_loss");
  AdamW::StepReport good, bad;
  good.gradient_norm = 1;
  bad.skipped = true;
  for (const AdamW::StepReport& report : {bad, bad, good, bad, bad}) {
    monitor.Observe(0, report, 1.0);
    EXPECT_FALSE(monitor.must_roll_back());
  }
  EXPECT_EQ(monitor.Observe(5, bad, 1.0).at("generator_skipped_steps"), 5);
  EXPECT_TRUE(monitor.must_roll_back());
}

TEST(StabilityMonitor, RelatesNormAndLossToTheirRecentPast) {
  StabilityMonitor monitor("generator", "generator_loss");
  AdamW::StepReport report;
  report.gradient_norm = 2;
  for (int step = 0; step < 10; ++step) {
    const auto scalars = monitor.Observe(step, report, -3.0);
    EXPECT_NEAR(scalars.at("generator_grad_norm_ratio"), 1, 1e-12);
    EXPECT_NEAR(scalars.at("generator_loss_ratio"), 1, 1e-12);
  }
  report.gradient_norm = 40;
  EXPECT_NEAR(monitor.Observe(10, report, 1.5).at("generator_grad_norm_ratio"), 20, 1e-9);
}

TEST(AdamW, ResumesBitwise) {
  TempFolder folder;
  const auto train = [](AdamW& adamw, at::Tensor& p, int from, int to) {
    for (int i = from; i < to; ++i) {
      p.mutable_grad() = at::full({3}, 0.1 * (i + 1));
      adamw.Step();
    }
  };
  at::Tensor p = at::ones({3}).requires_grad_(true);
  AdamW straight({{"p", p}}, Config(0.0));
  train(straight, p, 0, 3);
  SaveTensors(folder / "s.safetensors", straight.State());
  at::Tensor q = p.detach().clone().requires_grad_(true);
  AdamW resumed({{"p", q}}, Config(0.0));
  resumed.LoadState(SafetensorsFile::Open(folder / "s.safetensors"));
  train(straight, p, 3, 6);
  train(resumed, q, 3, 6);
  EXPECT_TRUE(at::equal(p, q));
}

TEST(Ema, ApproachesTheParametersAndResumes) {
  const NamedTensors parameters{{"p", at::zeros({1})}};
  Ema ema(parameters, 0.9);
  parameters[0].second.fill_(1);
  ema.Update(parameters);  // first decay is min(0.9, 2 / 11)
  EXPECT_NEAR(ema.average()[0].second.item<double>(), 1 - 2.0 / 11, 1e-6);
  TempFolder folder;
  SaveTensors(folder / "e.safetensors", ema.State());
  Ema other(parameters, 0.9);
  other.LoadState(SafetensorsFile::Open(folder / "e.safetensors"));
  ema.Update(parameters);
  other.Update(parameters);
  EXPECT_TRUE(at::equal(ema.average()[0].second, other.average()[0].second));
}

}  // namespace
}  // namespace sgmd
