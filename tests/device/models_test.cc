// Every model and optimizer gives on a GPU what it gives on the CPU.
#include <c10/core/GradMode.h>

#include "common/storage/atomic_folder.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/text/umt5_encoder.h"
#include "pipeline/text/umt5_files.h"
#include "pipeline/training/adamw.h"
#include "pipeline/training/muon.h"
#include "tests/device/both_devices.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

constexpr double kFloatBound = 1e-4;
constexpr double kHalfBound = 0.2;  // one rounding of bfloat16 more or less, where terms cancel

constexpr std::int64_t kClipWidth = 10;

enum class FirstFrame { kNone, kWithClip, kHeld };

struct WanCase {
  const char* name;
  WanPrecision precision;
  bool checkpoint = false, lora = false, gradient_of_input = false;
  double bound = kFloatBound;
  FirstFrame first_frame = FirstFrame::kNone;
};

Conditioning ConditionFor(const WanCase& of, const TinyInputs& in) {
  Conditioning condition{in.context};
  if (of.first_frame == FirstFrame::kHeld) condition.image = Noise({2, 2, 1, 4, 4}, 9);
  if (of.first_frame != FirstFrame::kWithClip) return condition;
  condition.image = Noise({2, 2, 2, 4, 4}, 9);
  condition.clip = Noise({2, 5, kClipWidth}, 10);
  return condition;
}

// With heads that fused attention takes.
WanTransformer SmallModel(at::Device device, const WanCase& of) {
  WanConfig wan = of.first_frame == FirstFrame::kWithClip ? TinyImageConfig(2, kClipWidth) : TinyWanConfig(2);
  if (of.first_frame == FirstFrame::kHeld) wan.model_type = "ti2v";
  wan.dim = 64;
  wan.ffn_dim = 128;
  WanTransformer model = RandomModel(wan, of.precision, device);
  if (!of.lora) return model;
  LoraConfig config;
  config.rank = config.alpha = 4;
  model = model.WithAdapters(config, 3);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.adapters()) p.copy_(Noise(p.sizes(), SeedFor(7, 0, 0, name)) * 0.1);
  return model;
}

class WanOnAGpu : public testing::TestWithParam<WanCase> {};

TEST_P(WanOnAGpu, GivesTheSameVelocityAndGradients) {
  const WanCase& of = GetParam();
  const auto compute = [&](at::Device device) {
    WanTransformer model = SmallModel(device, of);
    model.SetRequiresGrad(!of.gradient_of_input);
    model.SetBlockCheckpointing(of.checkpoint);
    const TinyInputs in;
    const at::Tensor x = in.x.to(device).requires_grad_(of.gradient_of_input);
    const at::Tensor velocity = model.Forward(x, in.sigma.to(device), ConditionFor(of, in).To(device));
    velocity.square().mean().backward();
    std::vector<at::Tensor> out{velocity};
    if (of.gradient_of_input) out.push_back(x.grad());
    for (const auto& [name, p] : model.trained()) {
      if (p.grad().defined()) out.push_back(p.grad());
    }
    return out;
  };
  ExpectTheSameOnBothDevices(compute, of.bound);
}

const WanPrecision kMixed(at::kFloat, at::kBFloat16), kHalf(at::kBFloat16, at::kBFloat16);

INSTANTIATE_TEST_SUITE_P(
    Forms, WanOnAGpu,
    testing::Values(WanCase{"float32", at::kFloat}, WanCase{"float32_checkpointed", at::kFloat, true},
                    WanCase{"float64", at::kDouble, false, false, false, 1e-9},
                    WanCase{"bfloat16_over_float32", kMixed, false, false, false, kHalfBound},
                    WanCase{"bfloat16_checkpointed", kMixed, true, false, false, kHalfBound},
                    WanCase{"adapters_checkpointed", kHalf, true, true, false, kHalfBound},
                    WanCase{"gradient_of_the_input", kHalf, true, false, true, kHalfBound},
                    WanCase{"first_frame_and_clip", at::kFloat, true, false, false, kFloatBound, FirstFrame::kWithClip},
                    WanCase{"held_first_frame", at::kFloat, true, false, false, kFloatBound, FirstFrame::kHeld}),
    [](const auto& of) { return of.param.name; });

TEST(OptimizersOnAGpu, StepSaveAndLoadAsOnTheCpu) {
  ExpectTheSameOnBothDevices(
      [](at::Device device) {
        const TempFolder folder;
        NamedTensors parameters{{"a", Noise({5, 3}, 1).to(device).requires_grad_(true)},
                                {"b", Noise({7}, 2).to(device).requires_grad_(true)}};
        OptimizerConfig config;
        config.learning_rate = 0.1;
        config.beta1 = 0.9;
        config.clip_norm = 0.5;
        AdamW adamw(parameters, config), again(parameters, config);
        Ema average(parameters, 0.9);
        for (int step = 0; step < 3; ++step) {
          for (auto& [name, p] : parameters) p.mutable_grad() = Noise(p.sizes(), 10 + step).to(device);
          adamw.Step();
          average.Update(parameters);
        }
        SaveTensors(folder / "optimizer.safetensors", adamw.State());
        again.LoadState(From(SafetensorsFile::Open(folder / "optimizer.safetensors")));
        std::vector<at::Tensor> out;
        for (const NamedTensors& state : {again.State(), average.State(), parameters}) {
          for (const auto& [name, tensor] : state) out.push_back(tensor);
        }
        return out;
      },
      1e-5);
}

TEST(OptimizersOnAGpu, MuonStepsAsOnTheCpu) {
  ExpectTheSameOnBothDevices(
      [](at::Device device) {
        NamedTensors parameters{{"a", Noise({6, 4}, 1).to(device).requires_grad_(true)},
                                {"b", Noise({6, 4}, 2).to(device).requires_grad_(true)}};
        Muon muon(parameters, {});
        for (auto& [name, p] : parameters) p.mutable_grad() = Noise(p.sizes(), 10).to(device);
        muon.Step(1);
        return std::vector<at::Tensor>{parameters[0].second, parameters[1].second};
      },
      kFloatBound);
}

class VaeOnAGpu : public testing::TestWithParam<bool> {};

TEST_P(VaeOnAGpu, DecodesAndEncodesAsOnTheCpu) {
  ExpectTheSameOnBothDevices(
      [](at::Device device) {
        const c10::NoGradGuard no_grad;
        const WanVae cpu = TinyVae(GetParam());
        WanVae vae(cpu.config(), device);
        for (std::size_t i = 0; i < cpu.parameters().size(); ++i)
          vae.parameters()[i].second.copy_(cpu.parameters()[i].second);
        const auto factor = vae.config().spatial_factor();
        const at::Tensor latents = Noise({1, vae.channels(), 3, 3, 2}, 3),
                         pixels = Uniform({1, 3, 9, factor, 2 * factor}, 4) * 2 - 1;
        std::vector<at::Tensor> results{vae.Decode(latents.to(device)), vae.Encode(pixels.to(device))};
        vae.TileSpace({.tile = 2 * factor, .stride = factor});
        for (const at::Device where : {device, at::Device(at::kCPU)}) results.push_back(vae.Decode(latents.to(where)));
        return results;
      },
      kFloatBound);
}

INSTANTIATE_TEST_SUITE_P(Forms, VaeOnAGpu, testing::Bool(),
                         [](const auto& of) { return of.param ? "Wan22" : "Wan21"; });

TEST(Umt5OnAGpu, EncodesAsOnTheCpu) {
  const TempFolder folder;
  WriteFileAtomically(folder / "config.json",
                      R"({"model_type": "umt5", "feed_forward_proj": "gated-gelu", "vocab_size": 11, "d_model": 8,
                          "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 3,
                          "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20})");
  NamedTensors tensors;
  for (const Umt5Tensor& t : Umt5Tensors(Umt5Config::FromFile(folder / "config.json")))
    tensors.emplace_back(t.name, Noise(t.shape, SeedFor(1, 0, 0, t.name)));
  SaveTensors(folder / "model.safetensors", tensors);
  ExpectTheSameOnBothDevices(
      [&](at::Device device) {
        return Umt5Encoder::Load(folder.path(), device).EncodeAll({{1, 2, 3, 4, 5, 1}, {7, 1}});
      },
      kFloatBound);
}

}  // namespace
}  // namespace sgmd
