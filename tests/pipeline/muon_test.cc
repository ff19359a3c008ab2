#include "pipeline/training/muon.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "pipeline/flow/random.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

class OrthogonaliseTest : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};

TEST_P(OrthogonaliseTest, BringsSingularValuesNearOneAndKeepsTheSingularVectors) {
  const auto [rows, columns] = GetParam();
  const at::Tensor matrices = Noise({3, rows, columns}, 5);
  const at::Tensor orthogonal = Orthogonalise(matrices);
  const auto [u, s, vh] = at::linalg_svd(matrices, false);
  // In the basis of the singular vectors of the input the output must be diagonal.
  const at::Tensor inside = at::matmul(at::matmul(u.transpose(1, 2), orthogonal), vh.transpose(1, 2));
  const at::Tensor diagonal = inside.diagonal(0, 1, 2);
  const at::Tensor large = diagonal.masked_select(s > 0.02 * at::linalg_vector_norm(s, 2, at::IntArrayRef{1}, true));
  EXPECT_GT(large.numel(), 2 * diagonal.size(1));
  EXPECT_GT(large.min().item<double>(), 0.6);
  EXPECT_LT(diagonal.max().item<double>(), 1.3);
  EXPECT_LT((inside - at::diag_embed(diagonal)).abs().max().item<double>(), 1e-3);
}
INSTANTIATE_TEST_SUITE_P(Shapes, OrthogonaliseTest,
                         testing::Values(std::pair{8, 8}, std::pair{6, 24}, std::pair{24, 6}));

TEST(Muon, TheSizeOfAGradientDoesNotMatter) {
  at::Tensor small = at::zeros({4, 4}).requires_grad_(true), large = at::zeros({4, 4}).requires_grad_(true);
  Muon first({{"p", small}}, {}), second({{"p", large}}, {});
  const at::Tensor gradient = Noise({4, 4}, 2);
  small.mutable_grad() = gradient * 1e-3;
  large.mutable_grad() = gradient * 1e3;
  first.Step();
  second.Step();
  EXPECT_LT((small - large).abs().max().item<double>(), 1e-4);
  EXPECT_FALSE(small.grad().defined());
}

TEST(Muon, FitsALinearMap) {
  const at::Tensor x = Noise({64, 6}, 1), target = at::matmul(x, Noise({6, 5}, 2));
  at::Tensor w = at::zeros({5, 6}).requires_grad_(true);
  Muon muon({{"w", w}}, {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0});
  const auto loss = [&] { return at::mse_loss(at::linear(x, w), target); };
  const double before = loss().item<double>();
  constexpr int kSteps = 200;
  for (int i = 0; i < kSteps; ++i) {
    loss().backward();
    muon.Step(1 - static_cast<double>(i) / kSteps);
  }
  EXPECT_LT(loss().item<double>(), 1e-3 * before);
}

TEST(Muon, GoesOnFromItsState) {
  const auto run = [](int steps, Muon& muon, at::Tensor& w, int from) {
    for (int i = from; i < from + steps; ++i) {
      w.mutable_grad() = Noise({4, 8}, static_cast<std::uint64_t>(i));
      muon.Step();
    }
  };
  at::Tensor calm = at::zeros({4, 8}).requires_grad_(true), cut = at::zeros({4, 8}).requires_grad_(true);
  Muon whole({{"w", calm}}, {}), before({{"w", cut}}, {}), after({{"w", cut}}, {});
  run(4, whole, calm, 0);
  run(2, before, cut, 0);
  const TempFolder folder;
  SaveTensors(folder / "muon.safetensors", before.State());
  after.LoadState(SafetensorsFile::Open(folder / "muon.safetensors"));
  run(2, after, cut, 2);
  EXPECT_TRUE(at::equal(calm, cut));
}

}  // namespace
}  // namespace sgmd
