#include "pipeline/models/wan_transformer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/flow/random.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_config.h"

namespace sgmd {
namespace {

WanConfig Tiny() { return TinyWanConfig(2); }

WanTransformer Random(const WanConfig& config) {
  WanTransformer model(config);
  model.Initialise(1);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.parameters()) {
    if (name == "head.head.weight") p.copy_(Noise(p.sizes(), 2));
  }
  return model;
}

// wan_facts §1.1: tensors and parameters of the published models; counted here for the 1.3B from its sizes.
TEST(WanTransformer, HasTheNamesAndCountOfTheFamily) {
  const WanTransformer model(Tiny());
  EXPECT_EQ(model.parameters().size(), 27U * 2 + 15);
  const std::int64_t d = 12, f = 16;
  const std::int64_t block = 6 * d + 2 * (4 * (d * d + d) + 2 * d) + 2 * d + (d * f + f) + (f * d + d);
  const std::int64_t outside = (d * 2 * 4 + d) + (6 * d + d) + (d * d + d) + (8 * d + d) + (d * d + d) +
                               (6 * d * d + 6 * d) + (d * 8 + 8) + 2 * d;
  EXPECT_EQ(model.ParameterCount(), 2 * block + outside);
  EXPECT_EQ(model.parameters().front().first, "patch_embedding.weight");
}

TEST(Rope, SplitsPairsOverFrameRowColumnInThatOrder) {
  // head size 16: 8 pairs; 2 for rows, 2 for columns, 4 for frames.
  const at::Tensor table = RopeTable({2, 3, 4}, 16);
  ASSERT_EQ(table.sizes(), (std::vector<std::int64_t>{24, 8}));
  const at::Tensor angle = table.angle();
  const std::int64_t token = (1 * 3 + 2) * 4 + 3;  // frame 1, row 2, column 3
  const double expected[8] = {
      1, std::pow(10000, -0.25),   std::pow(10000, -0.5), std::pow(10000, -0.75), 2, 2 * std::pow(10000, -0.5),
      3, 3 * std::pow(10000, -0.5)};
  for (int j = 0; j < 8; ++j) EXPECT_NEAR(angle[token][j].item<double>(), expected[j], 1e-12) << j;
}

TEST(Rope, RotatesInterleavedPairs) {
  const double a = 0.3;
  const at::Tensor table = at::polar(at::ones({1, 2}, at::kDouble), at::tensor({a, 0.0}, at::kDouble).view({1, 2}));
  const at::Tensor x = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 1, 1, 4});
  const at::Tensor y = ApplyRope(x, table).view(-1);
  EXPECT_NEAR(y[0].item<double>(), std::cos(a) - 2 * std::sin(a), 1e-12);
  EXPECT_NEAR(y[1].item<double>(), std::sin(a) + 2 * std::cos(a), 1e-12);
  EXPECT_NEAR(y[2].item<double>(), 3, 1e-12);
  EXPECT_NEAR(y[3].item<double>(), 4, 1e-12);
}

TEST(Rope, Head128SplitsAs22And21And21) {
  const at::Tensor angle = RopeTable({2, 2, 2}, 128).angle();
  EXPECT_NEAR(angle[4][0].item<double>(), 1, 1e-12);   // frame 1: first temporal pair
  EXPECT_NEAR(angle[4][22].item<double>(), 0, 1e-12);  // row 0
  EXPECT_NEAR(angle[2][22].item<double>(), 1, 1e-12);  // row 1: first height pair
  EXPECT_NEAR(angle[1][43].item<double>(), 1, 1e-12);  // column 1: first width pair
}

TEST(TimestepSinusoid, IsCosinesThenSines) {
  const at::Tensor s = TimestepSinusoid(at::tensor({500.0}, at::kDouble), 4)[0];
  const double w1 = std::pow(10000, -0.5);
  const double expected[4] = {std::cos(500.0), std::cos(500 * w1), std::sin(500.0), std::sin(500 * w1)};
  for (int j = 0; j < 4; ++j) EXPECT_NEAR(s[j].item<double>(), expected[j], 1e-9);
}

// With every block contributing nothing, the network is patches -> norm -> head -> unpatch: checks patch and pixel
// order.
TEST(WanTransformer, PutsPatchesBackWhereTheyCameFrom) {
  WanConfig c = Tiny();
  c.dim = 24;
  c.num_layers = 1;
  WanTransformer model(c);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.parameters()) {
    if (name == "patch_embedding.weight") {  // dim (ch, r, q) of the token is pixel (r, q) of channel ch
      for (int ch = 0; ch < 2; ++ch)
        for (int r = 0; r < 2; ++r)
          for (int q = 0; q < 2; ++q) p[(ch * 2 + r) * 2 + q][ch][0][r][q] = 1;
    }
    if (name == "head.head.weight") {  // output (r, q, c), c fastest
      for (int ch = 0; ch < 2; ++ch)
        for (int r = 0; r < 2; ++r)
          for (int q = 0; q < 2; ++q) p[(r * 2 + q) * 2 + ch][(ch * 2 + r) * 2 + q] = 1;
    }
  }
  const at::Tensor x = Noise({1, 2, 3, 4, 6}, 1);
  const at::Tensor y = model.Forward(x, at::tensor({0.5F}), {at::zeros({1, 4, 6})});
  // The layer norm maps each patch by an increasing affine function, so within a patch the order of values survives.
  const auto patches = [](const at::Tensor& t) {
    return t.reshape({1, 2, 3, 2, 2, 3, 2})
        .permute({0, 2, 3, 5, 1, 4, 6})
        .reshape({-1, 8})
        .argsort(static_cast<std::int64_t>(1));
  };
  EXPECT_TRUE(at::equal(patches(x), patches(y)));
}

TEST(WanTransformer, ModulationIsShiftScaleGateForAttentionThenFeedForward) {
  // Self-attention gate (chunk 2) and feed-forward gate (chunk 5) at zero: neither branch may change the output.
  WanTransformer model = Random(Tiny());
  const at::Tensor x = Noise({1, 2, 1, 4, 4}, 3), sigma = at::tensor({0.4F}), context = Noise({1, 4, 6}, 4);
  const c10::NoGradGuard no_grad;
  const auto set = [&](const std::string& part, auto change) {
    for (const auto& [name, p] : model.parameters()) {
      if (name.find(part) != std::string::npos) change(p);
    }
  };
  set("time_projection", [](const at::Tensor& p) { p.zero_(); });
  set("blocks.0.modulation", [](const at::Tensor& p) { p[0][2].zero_(), p[0][5].zero_(); });
  set("blocks.1.modulation", [](const at::Tensor& p) { p[0][2].zero_(), p[0][5].zero_(); });
  const at::Tensor before = model.Forward(x, sigma, {context});
  set("self_attn.v.weight", [](const at::Tensor& p) { p.mul_(3); });
  set("ffn.0.weight", [](const at::Tensor& p) { p.mul_(3); });
  EXPECT_TRUE(at::equal(model.Forward(x, sigma, {context}), before));
  set("cross_attn.v.weight", [](const at::Tensor& p) { p.mul_(3); });
  EXPECT_FALSE(at::allclose(model.Forward(x, sigma, {context}), before));
}

// Forward and all gradients; of a model in bfloat16 they differ by its rounding.
TEST(WanTransformer, GivesTheSameWithFusedAndWithReferenceKernels) {
  for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
    std::vector<std::vector<at::Tensor>> found;
    for (const Kernels kernels : {Kernels::kFused, Kernels::kReference}) {
      WanTransformer model(Tiny(), at::kCPU, {at::kFloat, compute, kernels});
      model.Initialise(1);
      for (const auto& [name, p] : model.parameters()) {
        if (name == "head.head.weight") p.copy_(Noise(p.sizes(), 2));
      }
      model.SetRequiresGrad(true);
      const at::Tensor x = Noise({2, 2, 1, 4, 4}, 3).requires_grad_();
      const at::Tensor y = model.Forward(x, at::tensor({0.4F, 0.7F}), {Noise({2, 4, 6}, 4)});
      y.square().mean().backward();
      std::vector<at::Tensor> results{y.detach(), x.grad()};
      for (const auto& [name, p] : model.parameters()) {
        if (!name.ends_with("k.bias")) results.push_back(p.grad());  // nearly nothing: scores of a query move together
      }
      found.push_back(results);
    }
    for (std::size_t i = 0; i < found[0].size(); ++i) {
      const double error = ((found[0][i] - found[1][i]).norm() / found[1][i].norm()).item<double>();
      EXPECT_LT(error, compute == at::kFloat ? 5e-6 : 0.03) << i;
    }
  }
}

TEST(WanTransformer, AttendsThePaddedTextRows) {
  const WanTransformer model = Random(Tiny());
  const at::Tensor x = Noise({1, 2, 1, 4, 4}, 3), sigma = at::tensor({0.4F});
  WanConfig longer = Tiny();
  longer.text_len = 6;
  WanTransformer other = Random(longer);  // the same parameters: text_len shapes none
  const at::Tensor context = at::constant_pad_nd(Noise({1, 2, 6}, 4), {0, 0, 0, 2});
  const at::Tensor padded = at::constant_pad_nd(context, {0, 0, 0, 2});
  EXPECT_FALSE(at::allclose(model.Forward(x, sigma, {context}), other.Forward(x, sigma, {padded})));
}

TEST(WanTransformer, SavesAndLoadsBitwise) {
  TempFolder folder;
  const WanTransformer model = Random(Tiny());
  model.Save(folder.path());
  const WanTransformer loaded = WanTransformer::Load(folder.path(), at::kCPU);
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(model.parameters()[i].second, loaded.parameters()[i].second)) << model.parameters()[i].first;
  }
}

TEST(WanTransformer, NamesWhatDoesNotFitTheFile) {
  TempFolder folder;
  Random(Tiny()).Save(folder.path());
  WanConfig other = Tiny();
  other.num_layers = 3;
  other.ffn_dim = 20;
  WriteFileAtomically(folder / "config.json", other.ToJson());
  try {
    WanTransformer::Load(folder.path(), at::kCPU);
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("missing: blocks.2.modulation"), std::string::npos) << text;
    EXPECT_NE(text.find("shape of blocks.0.ffn.0.weight"), std::string::npos) << text;
  }
}

TEST(WanTransformer, ForwardAndInputGradientDoNotDependOnThreads) {
  const WanTransformer model = Random(Tiny());
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const at::Tensor x = Noise({2, 2, 2, 4, 4}, 3).requires_grad_(true);
    const at::Tensor y = model.Forward(x, at::tensor({0.4F, 0.8F}), {Noise({2, 4, 6}, 4)});
    y.square().sum().backward();
    at::set_num_threads(1);
    return std::pair(y.detach(), x.grad());
  };
  const auto one = run(1), two = run(2);
  EXPECT_TRUE(at::equal(one.first, two.first));
  EXPECT_TRUE(at::equal(one.second, two.second));
}

}  // namespace
}  // namespace sgmd
