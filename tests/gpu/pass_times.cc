// How long the passes of a Wan transformer take on a device and what they hold there, beside what `plan` counts with. A
// line of JSON a pass. Weights are random: times and sizes do not depend on them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/command_line/command_line.h"
#include "pipeline/device/open_device.h"
#include "pipeline/device/peak_memory.h"
#include "pipeline/device/torch_program.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_size.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

struct Options {
  WanConfig model;
  std::vector<std::int64_t> latent{16, 21, 60, 104};
  std::string device = "cuda";
  std::int64_t lora_rank = 0;
  int repeats = 3, threads = 1;
  double peak_tflops = 989, plan_tflops = 400;
  bool fast = false;
  std::string kernels = "fused", only;
};

constexpr double kPassesOfBackward[] = {0, 1, 1, 2};  // in forward passes, by Backward (wan_facts §7)

class PassTimes {
 public:
  explicit PassTimes(const Options& options)
      : o_(options),
        kernels_(o_.kernels == "fused" ? Kernels::kFused : Kernels::kReference),
        device_(OpenDevice(o_.device, {.deterministic = !o_.fast})),
        tokens_(TokenCount(o_.model, o_.latent)),
        flops_(ForwardFlopsOf(o_.model, tokens_).total()),
        sigma_(at::full({1}, 0.7, at::TensorOptions(device_))),
        text_{Noise({1, o_.model.text_len, o_.model.text_dim}, 2).to(device_, at::kBFloat16)} {
    std::vector<std::int64_t> shape{1};
    shape.insert(shape.end(), o_.latent.begin(), o_.latent.end());
    latents_ = Noise(shape, 1).to(device_);
  }

  void MeasureAll() {
    {
      const c10::NoGradGuard no_grad;
      WanTransformer frozen = Model(at::kBFloat16);
      Measure("forward", Backward::kNone, 1, [&] { frozen.Forward(latents_, sigma_, text_); });
      Measure("teacher score", Backward::kNone, 2,
              [&] { GuidedVelocity(frozen, latents_, sigma_, text_, text_, 5.0); });
    }
    WanTransformer trained = Model(o_.lora_rank > 0 ? at::kBFloat16 : at::kFloat);
    if (o_.lora_rank > 0) {
      LoraConfig lora;
      lora.rank = o_.lora_rank;
      lora.alpha = static_cast<double>(o_.lora_rank);
      trained = trained.WithAdapters(lora, 1);
    }
    trained.SetBlockCheckpointing(true);
    MeasureTraining(trained);
    trained.SetRequiresGrad(false);
    Measure("fake score's gradient", Backward::kInput, 1, [&] {
      const at::Tensor x = latents_.clone().requires_grad_(true);
      trained.Forward(x, sigma_, text_).square().mean().backward();
    });
  }

 private:
  // Small weights, drawn where they are: 1.3e9 numbers from a counter on the CPU would take minutes.
  WanTransformer Model(at::ScalarType storage) const {
    WanTransformer model(o_.model, device_, WanPrecision(storage, at::kBFloat16, kernels_));
    const c10::NoGradGuard no_grad;
    for (const auto& [name, p] : model.parameters())
      p.view({-1}).copy_(at::arange(p.numel(), p.options()).sin_()).mul_(0.02);
    return model;
  }

  // A training pass, with attention computed again and with it kept; and whether both, and the second of two, end in
  // the same bits.
  void MeasureTraining(WanTransformer& model) {
    model.SetRequiresGrad(true);
    const auto pass = [&] {
      for (const auto& [name, p] : model.trained()) at::Tensor(p).mutable_grad() = at::Tensor();
      model.Forward(latents_, sigma_, text_).square().mean().backward();
    };
    const Backward backward = o_.lora_rank > 0 ? Backward::kAdapters : Backward::kFull;
    model.SetBlockCheckpointing({true, /*keep_attention=*/true});
    Measure("training pass, attention kept", backward, 1, pass, /*keep_attention=*/true);
    model.SetBlockCheckpointing(true);
    Measure("training pass", backward, 1, pass);
    if (!Asked("training pass, again")) return;
    const auto gradients = [&](Recomputation recompute) {
      model.SetBlockCheckpointing(recompute);
      pass();
      std::vector<at::Tensor> all;
      for (const auto& [name, p] : model.trained()) all.push_back(p.grad());
      return all;
    };
    const std::vector<at::Tensor> first = gradients(true);
    const auto same = [&](const std::vector<at::Tensor>& others) {
      for (std::size_t i = 0; i < first.size(); ++i) {
        if (!at::equal(first[i], others[i])) return false;
      }
      return true;
    };
    const bool again = same(gradients(true)), kept = same(gradients({true, true}));
    for (const auto& [name, p] : model.trained()) at::Tensor(p).mutable_grad() = at::Tensor();
    model.SetBlockCheckpointing(true);
    std::cout << nlohmann::json{{"pass", "training pass, again"}, {"same_bits", again}, {"same_bits_kept", kept}}
              << std::endl;
  }

  bool Asked(const std::string& name) const { return name.find(o_.only) != std::string::npos; }

  double Seconds(const std::function<void()>& pass) const {
    const auto start = std::chrono::steady_clock::now();
    pass();
    if (!device_.is_cpu()) c10::impl::getDeviceGuardImpl(device_.type())->synchronizeDevice(device_.index());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  void Measure(const char* name, Backward backward, std::int64_t samples, const std::function<void()>& pass,
               bool keep_attention = false) const {
    if (!Asked(name)) return;
    Seconds(pass);  // loads kernels and fills the allocator
    ResetPeakMemory(device_);
    const double before = static_cast<double>(PeakMemoryOf(device_).tensors);
    std::vector<double> seconds;
    for (int i = 0; i < o_.repeats; ++i) seconds.push_back(Seconds(pass));
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    const double passes = 1 + kPassesOfBackward[static_cast<std::size_t>(backward)];
    // Blocks that run again in the backward pass.
    const double attention = keep_attention ? ForwardFlopsOf(o_.model, tokens_).self_attention / flops_ : 0;
    const double again = backward == Backward::kNone ? 0 : 1 - attention;
    const PassSettings settings{backward, samples,       2, backward != Backward::kNone, o_.lora_rank,
                                kernels_, keep_attention};
    const double done = flops_ * static_cast<double>(samples) * passes;
    std::cout << nlohmann::json{{"pass", name},
                                {"seconds", median},
                                {"slowest_seconds", seconds.back()},
                                {"planned_seconds", done / passes * (passes + again) / (o_.plan_tflops * 1e12)},
                                {"tflop", done / 1e12},
                                {"mfu", done / median / (o_.peak_tflops * 1e12)},
                                {"held_gb", before / 1e9},
                                {"peak_gb", static_cast<double>(PeakMemoryOf(device_).tensors) / 1e9},
                                {"planned_activations_gb", ActivationBytes(o_.model, tokens_, settings) / 1e9}}
              << std::endl;
  }

  const Options o_;
  const Kernels kernels_;
  const at::Device device_;
  const std::int64_t tokens_;
  const double flops_;  // of one sample's forward pass
  const at::Tensor sigma_;
  const Conditioning text_;
  at::Tensor latents_;
};

}  // namespace
}  // namespace sgmd

int main(int argc, char** argv) {
  CLI::App app{
      "Times the passes of a Wan transformer with random weights, in bfloat16, blocks checkpointed where there is a "
      "backward\n"
      "pass, and says what they hold on the device. The default is Wan2.1-T2V-1.3B at 480p: 32,760 tokens.\n\n"
      "  pass_times --device cuda\n"
      "  pass_times --dim 5120 --ffn 13824 --heads 40 --layers 4 --lora-rank 64      four blocks of the 14B, "
      "adapters\n\n"
      "A line of JSON a pass: seconds (median), planned_seconds at --plan-tflops with blocks that run again, mfu of "
      "the\n"
      "work without those, held_gb before the pass, peak_gb in it, and the activations that `sgmd-launch plan` "
      "counts."};
  sgmd::Options o;
  app.add_option("--dim", o.model.dim, "Width of the model")->capture_default_str();
  app.add_option("--ffn", o.model.ffn_dim, "Width of the feed-forward layer")->capture_default_str();
  app.add_option("--heads", o.model.num_heads, "Attention heads")->capture_default_str();
  app.add_option("--layers", o.model.num_layers, "Blocks")->capture_default_str();
  app.add_option("--text-len", o.model.text_len, "Rows of a prompt's embedding")->capture_default_str();
  app.add_option("--latent", o.latent, "Channels, frames, height, width")->expected(4)->capture_default_str();
  app.add_option("--lora-rank", o.lora_rank, "Train adapters of this rank; 0: every parameter")->capture_default_str();
  app.add_option("--device", o.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", o.threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--repeats", o.repeats, "Measured passes")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--peak-tflops", o.peak_tflops, "Of the device in bfloat16, for mfu")->capture_default_str();
  app.add_option("--plan-tflops", o.plan_tflops, "What planned_seconds are at")->capture_default_str();
  app.add_option("--kernels", o.kernels, "[precision] kernels")
      ->check(CLI::IsMember({"fused", "reference"}))
      ->capture_default_str();
  app.add_option("--only", o.only, "Only passes whose name has this text");
  app.add_flag("--fast", o.fast, "Without determinism: [precision] deterministic = false");
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "pass_times")) return *code;
  return sgmd::RunTorchProgram("pass_times", [&] {
    at::set_num_threads(o.threads);
    o.model.in_dim = o.model.out_dim = o.latent[0];
    o.model.Validate("the command line");
    sgmd::PassTimes(o).MeasureAll();
    return 0;
  });
}
