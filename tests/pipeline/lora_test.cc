#include "pipeline/models/lora.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "common/error/error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

// Adapters as after some training.
WanTransformer Trained(const WanTransformer& base, const LoraConfig& lora) {
  WanTransformer model = base.WithAdapters(lora, 7);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.adapters()) p.add_(Noise(p.sizes(), p.numel()) * 0.2);
  return model;
}

TEST(Lora, SharesTheBaseAndChangesNothingAtFirst) {
  const WanTransformer base = RandomModel(TinyWanConfig(2));
  WanTransformer adapted = base.WithAdapters({4, 4.0}, 7);
  for (std::size_t i = 0; i < base.parameters().size(); ++i) {
    EXPECT_EQ(base.parameters()[i].second.const_data_ptr(), adapted.parameters()[i].second.const_data_ptr());
  }
  const TinyInputs in;
  EXPECT_TRUE(at::equal(base.Forward(in.x, in.sigma, {in.context}), adapted.Forward(in.x, in.sigma, {in.context})));
  adapted.SetRequiresGrad(true);
  for (const auto& [name, p] : adapted.parameters()) EXPECT_FALSE(p.requires_grad()) << name;
  for (const auto& [name, p] : base.parameters()) EXPECT_FALSE(p.requires_grad()) << name;
  for (const auto& [name, p] : adapted.adapters()) EXPECT_TRUE(p.requires_grad()) << name;
}

TEST(Lora, DownIsNormalOfDeviationOneOverRankAndUpIsZero) {
  WanConfig config = TinyWanConfig(8);
  config.dim = 96;
  const WanTransformer model = RandomModel(config).WithAdapters({16, 16.0}, 7);
  std::vector<at::Tensor> down;
  for (const auto& [name, p] : model.adapters()) {
    if (name.ends_with(kLoraUp)) {
      EXPECT_EQ(p.abs().max().item<double>(), 0) << name;
    } else {
      down.push_back(p.flatten());
    }
  }
  const at::Tensor all = at::cat(down);
  EXPECT_NEAR(all.std().item<double>(), 1.0 / 16, 1e-3);
  EXPECT_NEAR(all.mean().item<double>(), 0, 1e-3);
  EXPECT_FALSE(at::equal(down[0], down[1]));
}

TEST(Lora, TargetsAreMatchedByTheEndOfTheName) {
  const auto linears = [](const LoraConfig& lora) {
    std::set<std::string> names;
    const WanTransformer model = RandomModel(TinyWanConfig(1)).WithAdapters(lora, 7);
    for (const auto& [name, p] : model.adapters()) {
      if (name.ends_with(kLoraDown)) names.insert(name.substr(0, name.size() - sizeof(kLoraDown) + 1));
    }
    return names;
  };
  EXPECT_EQ(linears({2, 2.0}).size(), 10U);
  EXPECT_EQ(linears({2, 2.0, {"o"}}), (std::set<std::string>{"blocks.0.self_attn.o", "blocks.0.cross_attn.o"}));
  EXPECT_EQ(linears({2, 2.0, {"cross_attn.q", "ffn.2"}}),
            (std::set<std::string>{"blocks.0.cross_attn.q", "blocks.0.ffn.2"}));
  EXPECT_THROW(linears({2, 2.0, {"head.head"}}), Error);
}

// wan_facts §5: 87.5M, 306.7M and 161.2M at rank 64.
TEST(Lora, HasThePublishedCountsAtRealSize) {
  struct Size {
    std::int64_t dim, heads, layers, ffn, channels, parameters, adapters;
  };
  for (const Size& s : {Size{1536, 12, 30, 8960, 16, 1'418'996'800, 87'490'560},
                        Size{5120, 40, 40, 13824, 16, 14'288'491'584, 306'708'480},
                        Size{3072, 24, 30, 14336, 48, 4'999'787'712, 161'218'560}}) {
    WanConfig config;
    config.dim = s.dim;
    config.num_heads = s.heads;
    config.num_layers = s.layers;
    config.ffn_dim = s.ffn;
    config.in_dim = config.out_dim = s.channels;
    const WanTransformer model(config, at::kMeta);
    const WanTransformer adapted = model.WithAdapters({64, 64.0}, 1);
    std::int64_t count = 0;
    for (const auto& [name, p] : adapted.adapters()) count += p.numel();
    EXPECT_EQ(count, s.adapters);
    EXPECT_EQ(model.ParameterCount(), s.parameters);
  }
}

TEST(Lora, GradientsAreThoseOfFiniteDifferences) {
  WanTransformer model = Trained(RandomModel(TinyWanConfig(2), at::kDouble), {3, 6.0});
  const TinyInputs in;
  const at::Tensor sigma = in.sigma.to(at::kDouble), direction = Noise(in.x.sizes(), 9).to(at::kDouble);
  const auto loss = [&] { return (model.Forward(in.x.to(at::kDouble), sigma, {in.context}) * direction).sum(); };
  model.SetRequiresGrad(true);
  loss().backward();
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.adapters()) {
    for (const std::int64_t i : {std::int64_t{0}, p.numel() / 2, p.numel() - 1}) {
      const at::Tensor entry = p.view(-1)[i];
      constexpr double kStep = 1e-5;
      entry.add_(kStep);
      const double above = loss().item<double>();
      entry.sub_(2 * kStep);
      const double below = loss().item<double>();
      entry.add_(kStep);
      const double gradient = p.grad().view(-1)[i].item<double>();
      EXPECT_NEAR(gradient, (above - below) / (2 * kStep), 1e-7 + 1e-6 * std::abs(gradient)) << name << " " << i;
    }
  }
}

TEST(Lora, MergedComputesTheSameAndUnmergesWithinRounding) {
  WanTransformer model = RandomModel(TinyWanConfig(2));
  const WanTransformer before = model.Clone();
  const LoraConfig lora{4, 8.0};
  const WanTransformer adapted = Trained(model, lora);
  const TinyInputs in;
  const at::Tensor expected = adapted.Forward(in.x, in.sigma, {in.context}),
                   plain = model.Forward(in.x, in.sigma, {in.context});
  WanTransformer merged = model.Clone();
  MergeLora(merged, adapted.adapters(), lora.Scale());
  EXPECT_TRUE(at::allclose(merged.Forward(in.x, in.sigma, {in.context}), expected, 1e-4, 1e-5));
  EXPECT_FALSE(at::allclose(plain, expected, 1e-2, 1e-2));
  UnmergeLora(merged, adapted.adapters(), lora.Scale());
  for (std::size_t i = 0; i < before.parameters().size(); ++i) {
    EXPECT_TRUE(at::allclose(merged.parameters()[i].second, before.parameters()[i].second, 1e-5, 1e-6));
  }
}

TEST(Lora, MergingRefusesWhatTheModelHasNoPlaceForAndChangesNothing) {
  WanTransformer small = RandomModel(TinyWanConfig(1));
  const WanTransformer before = small.Clone(), large = RandomModel(TinyWanConfig(2)).WithAdapters({2, 2.0}, 7);
  EXPECT_THROW(MergeLora(small, large.adapters(), 1), Error);
  EXPECT_THROW(MergeLora(small, {{"blocks.0.ffn.0.lora_down.weight", at::zeros({2, 12})}}, 1), Error);
  for (std::size_t i = 0; i < before.parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(small.parameters()[i].second, before.parameters()[i].second));
  }
}

TEST(Lora, FilesFoldTheScaleAndReadBack) {
  TempFolder folder;
  const LoraConfig lora{4, 2.0};
  const WanTransformer base = RandomModel(TinyWanConfig(2)), adapted = Trained(base, lora);
  WriteLora(folder / "lora.safetensors", adapted.adapters(), lora.Scale());
  const SafetensorsFile file = SafetensorsFile::Open(folder / "lora.safetensors");
  EXPECT_EQ(file.tensors().size(), 2U * 10 * 2);
  EXPECT_NE(file.Find("diffusion_model.blocks.1.cross_attn.o.lora_down.weight"), nullptr);
  const NamedTensors read = ReadLora(folder / "lora.safetensors");
  WanTransformer ours = base.Clone(), theirs = base.Clone();
  MergeLora(ours, adapted.adapters(), lora.Scale());
  MergeLora(theirs, read, 1);
  for (std::size_t i = 0; i < ours.parameters().size(); ++i) {
    EXPECT_TRUE(at::allclose(ours.parameters()[i].second, theirs.parameters()[i].second, 1e-6, 1e-7));
  }
}

TEST(Lora, ReadsAlphaAndRefusesOtherStyles) {
  TempFolder folder;
  const at::Tensor down = Noise({2, 12}, 1), up = Noise({12, 2}, 2);
  NamedTensors tensors{{"diffusion_model.blocks.0.self_attn.q.lora_down.weight", down},
                       {"diffusion_model.blocks.0.self_attn.q.lora_up.weight", up},
                       {"diffusion_model.blocks.0.self_attn.q.alpha", at::full({}, 8.0F)}};
  SaveTensors(folder / "alpha.safetensors", tensors);
  const NamedTensors read = ReadLora(folder / "alpha.safetensors");
  ASSERT_EQ(read.size(), 2U);
  EXPECT_TRUE(at::equal(read[0].second, down));
  EXPECT_TRUE(at::equal(read[1].second, up * 4.0));
  tensors[0].first = "transformer.blocks.0.attn1.to_q.lora_A.weight";
  SaveTensors(folder / "other.safetensors", tensors);
  EXPECT_THROW(ReadLora(folder / "other.safetensors"), Error);
}

TEST(Lora, CloneCopiesAdapters) {
  const WanTransformer adapted = Trained(RandomModel(TinyWanConfig(1)), {2, 2.0});
  const WanTransformer copy = adapted.Clone();
  const TinyInputs in;
  EXPECT_TRUE(at::equal(copy.Forward(in.x, in.sigma, {in.context}), adapted.Forward(in.x, in.sigma, {in.context})));
  EXPECT_NE(copy.adapters()[0].second.const_data_ptr(), adapted.adapters()[0].second.const_data_ptr());
}

}  // namespace
}  // namespace sgmd
