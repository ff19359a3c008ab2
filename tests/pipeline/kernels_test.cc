// What holds of every fused row kernel by itself: bits, gradients, what is kept, what is refused.
#include "pipeline/kernels/kernels.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "pipeline/kernels/cpu_rows.h"
#include "tests/pipeline/kernel_operations.h"
#include "tests/support/counting_allocator.h"

namespace sgmd {
namespace {

// Results and gradients of rows, of the third token alone and among others: a rank may hold any part of the tokens.
TEST(Kernels, ARowDoesNotDependOnItsNeighbours) {
  at::manual_seed(3);
  for (const Operation& operation : kOperations) {
    for (const std::int64_t width : {100, 1536}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const Tensors all = operation.draw(2, 9, width, dtype);
        Tensors one;
        for (const at::Tensor& t : all) {
          const bool rows = t.defined() && t.dim() == 3 && t.size(1) == 9;
          const bool table = t.defined() && t.is_complex();
          one.push_back(rows ? t.narrow(1, 2, 1) : table ? t.narrow(0, 2, 1) : t);
        }
        const Tensors among = ValuesAndGradients(operation, Kernels::kFused, all);
        const Tensors alone = ValuesAndGradients(operation, Kernels::kFused, one);
        for (std::size_t i = 0; i < among.size(); ++i) {
          if (among[i].dim() != 3 || among[i].size(1) != 9) continue;  // a sum over rows
          EXPECT_TRUE(at::equal(among[i].narrow(1, 2, 1), alone[i])) << operation.name << " " << width << " " << i;
        }
      }
    }
  }
}

// A processor without AVX-512 continues what one with it began.
TEST(Kernels, BitsDoNotDependOnTheInstructionSet) {
  at::manual_seed(4);
  constexpr int kWidth = 1006, kRows = 70;
  constexpr float kSmall = 1e-6F;
  const at::Tensor x = at::randn({kRows, kWidth}), dn = at::randn({kRows, kWidth}), scale = at::randn({kWidth}),
                   table = at::randn({kRows, 2}), half = x.to(at::kBFloat16);
  const auto from = [](const at::Tensor& t) { return t.const_data_ptr<float>(); };
  const auto to = [](const at::Tensor& t) { return t.mutable_data_ptr<float>(); };
  const auto halves = [](const at::Tensor& t) { return static_cast<rows::Bf16*>(t.data_ptr()); };
  const rows::Modulation modulation{from(scale), from(scale), 1.0F, kRows};
  const auto results = [&](rows::Isa isa) {
    const at::Tensor out = at::zeros({5, kRows, kWidth}), statistics = at::zeros({3, kRows}),
                     parts = at::zeros({rows::SharesOf(kRows), 2, kWidth}), small = at::zeros_like(half);
    float *mean = to(statistics), *rstd = mean + kRows, *rrms = rstd + kRows;
    using Norm = rows::Norm<float, rows::Add::kNone>;
    using Backward = rows::NormBackward<float, rows::Add::kNone>;
    const Norm norm{from(x), nullptr, nullptr, modulation, nullptr, to(out[0]), mean, rstd, kSmall};
    rows::RunRows(isa, norm, kWidth, 0, kRows);
    const Backward backward{from(dn), nullptr, from(x), nullptr, nullptr, modulation, mean, rstd, to(out[1]), nullptr};
    rows::RunShares(isa, backward, kWidth, kRows, to(parts), 0, rows::SharesOf(kRows));
    const rows::RmsRotate<float> rotate{from(x), from(scale), from(table), 2, kRows, to(out[2]), rrms, kSmall};
    rows::RunRows(isa, rotate, kWidth, 0, kRows);
    rows::RunElements(isa, rows::Gelu<float>{from(x), to(out[3])}, 0, kRows * kWidth);
    rows::RunElements(isa, rows::GeluBackward<float>{from(dn), from(x), to(out[4])}, 0, kRows * kWidth);
    rows::RunElements(isa, rows::Gelu<rows::Bf16>{halves(half), halves(small)}, 0, kRows * kWidth);
    return at::cat({out.flatten(), statistics.flatten(), parts.flatten(), small.flatten().to(at::kFloat)});
  };
  const at::Tensor expected = results(rows::Isa::kBaseline);
  for (const rows::Isa isa : rows::Isas()) EXPECT_TRUE(at::equal(results(isa), expected)) << static_cast<int>(isa);
}

TEST(Kernels, GradientsAreThoseOfFiniteDifferences) {
  at::manual_seed(5);
  for (const Operation& operation : kOperations) {
    const Tensors inputs = operation.draw(1, 3, 10, at::kFloat);
    const at::Tensor weight = at::randn({1, 3, 10}, at::kDouble);
    const auto loss = [&](const Tensors& t) {
      double sum = 0;
      const c10::NoGradGuard no_grad;
      for (const at::Tensor& r : operation.run(Kernels::kReference, t)) sum += (r * weight).sum().item<double>();
      return sum;
    };
    Tensors leaves = Leaves(inputs), exact;
    at::Tensor total = at::zeros({});
    for (const at::Tensor& r : operation.run(Kernels::kFused, leaves)) total = total + (r * weight).sum();
    total.backward();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!leaves[i].defined() || !leaves[i].requires_grad()) continue;
      exact = {};
      for (const at::Tensor& t : inputs)
        exact.push_back(!t.defined() ? t : t.to(t.is_complex() ? at::kComplexDouble : at::kDouble).clone());
      for (std::int64_t e = 0; e < exact[i].numel(); e += 3) {
        const at::Tensor element = exact[i].view(-1)[e];
        const double value = element.item<double>(), step = 1e-5;
        element.fill_(value + step);
        const double above = loss(exact);
        element.fill_(value - step);
        const double below = loss(exact);
        element.fill_(value);
        EXPECT_NEAR(leaves[i].grad().view(-1)[e].item<double>(), (above - below) / (2 * step), 2e-4)
            << operation.name << " " << i << " " << e;
      }
    }
  }
}

TEST(Kernels, GeluHoldsForAllSizesOfItsArgument) {
  const at::Tensor x =
      at::cat({at::linspace(-12, 12, 100001), at::tensor({0.0F, -0.0F, 1e-30F, -1e-30F, 1e4F, -1e4F})});
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor exact = wide * at::sigmoid(2 * std::sqrt(2 / M_PI) * (wide + 0.044715 * wide.pow(3)));
  const at::Tensor error = (Gelu(Kernels::kFused, x).to(at::kDouble) - exact).abs();
  EXPECT_LT((error / (exact.abs() + 1e-3)).max().item<double>(), 1e-5);
  EXPECT_LT((error - 3e-7 * wide.abs()).max().item<double>(), 1e-10);
  const at::Tensor odd = at::tensor({NAN, INFINITY}, at::kFloat);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor y = Gelu(Kernels::kFused, odd.to(dtype));
    EXPECT_TRUE(std::isnan(y[0].item<double>()));
    EXPECT_TRUE(std::isinf(y[1].item<double>()));
  }
}

TEST(Kernels, Bfloat16IsRoundedAsATenRounds) {
  at::manual_seed(6);
  const at::Tensor x = Rows(1, 50, 200, at::kBFloat16), y = Rows(1, 50, 200, at::kBFloat16), gate = PerSample(1, 200);
  EXPECT_TRUE(at::equal(AddGated(Kernels::kFused, x, y, gate), AddGated(Kernels::kReference, x, y, gate)));
  const at::Tensor one = at::ones({200}), none = at::zeros({200});
  EXPECT_TRUE(at::equal(AddThenNorm(Kernels::kFused, x, y, {}, one, none, kEps).stream, x + y));
}

TEST(Kernels, TakeTensorsOfAnyStrides) {
  at::manual_seed(8);
  const at::Tensor parts = at::randn({2, 6, 64});
  const auto m = parts.chunk(6, 1);
  const at::Tensor x = at::randn({2, 64, 5}).transpose(1, 2);
  EXPECT_LE(LargestError(AdaptiveNorm(Kernels::kFused, x, m[1], m[0], kEps),
                         AdaptiveNorm(Kernels::kReference, x, m[1], m[0], kEps)),
            2e-6);
}

TEST(Kernels, KeepTheirInputAndTwoNumbersARow) {
  const CountingAllocator counting;
  const std::int64_t n = 40, d = 512, stream = n * d * 4;
  const at::Tensor x = at::randn({1, n, d}).requires_grad_(), m = PerSample(1, d).requires_grad_();
  const std::int64_t before = CountingAllocator::live();
  const at::Tensor y = AdaptiveNorm(Kernels::kFused, x, m, m, kEps);
  EXPECT_LE(CountingAllocator::live() - before, stream + 2 * n * 4 + 256);
  const auto [s, norm] = AddThenNorm(Kernels::kFused, x, y, m, m, m, kEps);
  EXPECT_LE(CountingAllocator::live() - before, 3 * stream + 4 * n * 4 + 512);
}

// As the objectives ask for the gradient of the input alone while parameters would take part.
TEST(Kernels, GiveTheGradientsThatAreAskedFor) {
  for (const Operation& operation : kOperations) {
    const Tensors inputs = operation.draw(2, 3, 20, at::kFloat), all = Leaves(inputs);
    const at::Tensor sum = operation.run(Kernels::kFused, all).back().sum();
    const at::Tensor alone = torch::autograd::grad({sum}, {all[0]}, {}, /*retain_graph=*/true)[0];
    for (const at::Tensor& t : all) EXPECT_FALSE(t.defined() && t.grad().defined()) << operation.name;
    sum.backward();
    EXPECT_TRUE(at::equal(all[0].grad(), alone)) << operation.name;
    for (const at::Tensor& t : all) EXPECT_EQ(t.defined() && t.grad().defined(), t.defined() && t.requires_grad());
  }
}

TEST(Kernels, OtherDTypesTakeATen) {
  const at::Tensor x = at::randn({1, 4, 32}, at::kDouble), m = at::randn({1, 1, 32}, at::kDouble);
  EXPECT_TRUE(
      at::equal(AdaptiveNorm(Kernels::kFused, x, m, m, kEps), AdaptiveNorm(Kernels::kReference, x, m, m, kEps)));
  EXPECT_TRUE(at::equal(Gelu(Kernels::kFused, x), at::gelu(x, "tanh")));
}

TEST(Kernels, RefuseWhatDoesNotFit) {
  const at::Tensor x = at::randn({2, 4, 32}), m = PerSample(2, 32), w = Weight(32);
  const Kernels fused = Kernels::kFused;
  EXPECT_THROW(AdaptiveNorm(fused, x[0], m, m, kEps), Error);
  EXPECT_THROW(AdaptiveNorm(fused, x, PerSample(1, 32), m, kEps), Error);
  EXPECT_THROW(AdaptiveNorm(fused, x, m, m.to(at::kBFloat16), kEps), Error);
  EXPECT_THROW(AddThenNorm(fused, x, x.to(at::kBFloat16), m, w, w, kEps), Error);
  EXPECT_THROW(AddThenNorm(fused, x, x, m, w, m, kEps), Error);
  EXPECT_THROW(AddGated(fused, x, x.narrow(1, 0, 3), m), Error);
  EXPECT_THROW(RmsNormThenRotate(fused, x, Weight(31), {}, kEps), Error);
  EXPECT_THROW(RmsNormThenRotate(fused, x, w, Rotations(5, 32), kEps), Error);
  EXPECT_THROW(RmsNormThenRotate(fused, x, w, at::ones({4, 5}, at::kComplexFloat), kEps), Error);
}

TEST(Kernels, RefuseASecondDerivative) {
  const at::Tensor x = at::randn({1, 4, 32}).requires_grad_();
  const at::Tensor y = Gelu(Kernels::kFused, x).sum();
  EXPECT_THROW(torch::autograd::grad({y}, {x}, {}, std::nullopt, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace sgmd
