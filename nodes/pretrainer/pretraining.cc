#include "nodes/pretrainer/pretraining.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/event_writer.h"
#include "common/metrics/progress.h"
#include "common/storage/atomic_folder.h"
#include "nodes/pretrainer/finished.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/wan_files.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/training/adamw.h"
#include "pipeline/training/muon.h"

namespace sgmd {
namespace {

constexpr char kSettingsKey[] = "sgmd.pretraining";

std::string SettingsText(const PretrainingOptions& o) {
  const std::string width = o.width == PretrainingOptions().width ? "" : StrCat("width=", o.width, " ");
  return StrCat(width, "steps=", o.steps, " batch=", o.batch, " learning_rate=", o.learning_rate, " seed=", o.seed);
}

// Whether there is nothing left to do. Unfinished work of the same settings is gone on from.
bool IsFinished(const PretrainingOptions& o) {
  const auto state = o.out / ".pretraining";
  if (std::filesystem::exists(state)) {
    if (!TrainedAlready(state / "model.safetensors", kSettingsKey, SettingsText(o), o.force)) {
      std::filesystem::remove_all(state);
    }
    return false;
  }
  return TrainedAlready(o.out / kWanWeightsName, kSettingsKey, SettingsText(o), o.force) && !o.force;
}

// Half uniform, half logit-normal around 0.38: where a video ends up is decided at high noise, how exactly it gets
// there at low noise.
at::Tensor TrainingSigma(std::int64_t batch, const std::function<std::uint64_t(const char*)>& seed) {
  constexpr double kCentre = -0.5;
  const at::Tensor normal = Noise({batch}, seed("pretrain_sigma_normal"));
  return at::where(Uniform({batch}, seed("pretrain_sigma_kind")) < 0.5, Uniform({batch}, seed("pretrain_sigma")),
                   at::sigmoid(normal + kCentre));
}

// Model, optimizer and average of one run, and the state it resumes from.
class Run {
 public:
  explicit Run(const PretrainingOptions& options)
      : options_(options),
        model_(Prepared(options)),
        muon_(Matrices(model_, true), {}),
        optimizer_(Matrices(model_, false), Optimizer(options)),
        ema_(model_.parameters(), options.ema_decay),
        bank_(PromptBank::Open(options.out / "prompt_bank.safetensors")) {}

  // The flow-matching loss of update `step` (wan_facts §4 "Flow training"): unweighted MSE on v.
  double Update(std::int64_t step) {
    const auto seed = [&](const char* purpose) { return SeedFor(options_.seed, step, 0, purpose); };
    const BouncingBallBatch batch = DrawBouncingBalls(options_.shape, options_.batch, seed("pretrain_video"));
    const at::Tensor sigma = TrainingSigma(options_.batch, seed);
    const at::Tensor noise = Noise(batch.video.sizes(), seed("pretrain_noise"));
    const at::Tensor dropped = Uniform({options_.batch}, seed("pretrain_dropout")) < options_.prompt_dropout;
    std::vector<Digest> prompts;
    for (std::int64_t i = 0; i < options_.batch; ++i) {
      prompts.push_back(dropped[i].item<bool>() ? bank_.negative() : bank_.prompts()[batch.prompt[i]]);
    }
    const at::Tensor velocity =
        model_.Forward(AddNoise(batch.video, noise, sigma), sigma, {bank_.Gather(prompts, model_.config().text_len)});
    const at::Tensor loss = at::mse_loss(velocity, noise - batch.video);
    loss.backward();
    const double progress = static_cast<double>(step) / static_cast<double>(options_.steps);
    const double decay = 0.5 * (1 + std::cos(std::numbers::pi * progress));
    muon_.Step(decay * std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(options_.warmup_steps + 1)));
    optimizer_.Step(decay);
    ema_.Update(model_.parameters());
    return loss.item<double>();
  }

  std::int64_t steps_done() const { return optimizer_.steps(); }

  void SaveState() const {
    const auto state = options_.out / ".pretraining", staged = StagingFolder(state);
    std::filesystem::create_directories(staged);
    SaveTensors(staged / "model.safetensors", model_.parameters(), {{kSettingsKey, SettingsText(options_)}});
    SaveTensors(staged / "muon.safetensors", muon_.State());
    SaveTensors(staged / "optimizer.safetensors", optimizer_.State());
    SaveTensors(staged / "ema.safetensors", ema_.State());
    CommitFolder(state);
  }

  void ResumeIfSaved() {
    const auto state = options_.out / ".pretraining";
    if (!std::filesystem::exists(state)) return;
    LoadTensors(SafetensorsFile::Open(state / "model.safetensors"), model_.parameters());
    muon_.LoadState(SafetensorsFile::Open(state / "muon.safetensors"));
    optimizer_.LoadState(SafetensorsFile::Open(state / "optimizer.safetensors"));
    ema_.LoadState(SafetensorsFile::Open(state / "ema.safetensors"));
    LogInfo("resuming at update ", steps_done());
  }

  void SaveModel() const {
    WanTransformer average = model_.Clone();
    c10::NoGradGuard no_grad;
    for (std::size_t i = 0; i < average.parameters().size(); ++i) {
      average.parameters()[i].second.copy_(ema_.average()[i].second);
    }
    average.Save(options_.out, {{kSettingsKey, SettingsText(options_)}});
    std::filesystem::remove_all(options_.out / ".pretraining");
  }

 private:
  static WanTransformer Prepared(const PretrainingOptions& options) {
    std::filesystem::create_directories(options.out);
    WanTransformer model(EmbeddedModelConfig(options.width));
    WriteWordPromptBank(options.out / "prompt_bank.safetensors", BouncingBallPrompts(), "", model.config().text_dim);
    model.Initialise(SeedFor(options.seed, 0, 0, "pretrain_initialise"));
    model.SetRequiresGrad(true);
    return model;
  }

  // The matrices inside the blocks, or all the rest.
  static NamedTensors Matrices(const WanTransformer& model, bool inside) {
    NamedTensors chosen;
    for (const auto& [name, p] : model.parameters()) {
      if ((name.starts_with("blocks.") && p.dim() == 2) == inside) chosen.emplace_back(name, p);
    }
    return chosen;
  }

  static OptimizerConfig Optimizer(const PretrainingOptions& options) {
    OptimizerConfig config;
    config.learning_rate = options.learning_rate;
    config.beta1 = 0.9;
    config.beta2 = 0.99;
    config.clip_norm = 1.0;
    config.warmup_steps = options.warmup_steps;
    return config;
  }

  PretrainingOptions options_;
  WanTransformer model_;
  Muon muon_;
  AdamW optimizer_;
  Ema ema_;
  PromptBank bank_;
};

}  // namespace

WanConfig EmbeddedModelConfig(std::int64_t width) {
  WanConfig config;
  config.in_dim = config.out_dim = 3;
  config.dim = width;
  config.ffn_dim = 4 * width;
  config.freq_dim = 256;
  config.text_dim = 32;
  config.text_len = 8;
  config.num_heads = width / 32;
  config.num_layers = 4;
  config.patch_size = {1, 4, 4};
  return config;
}

void Pretrain(const PretrainingOptions& options) {
  if (IsFinished(options)) return LogInfo(options.out.string(), " was trained with these settings already");
  Run run(options);
  run.ResumeIfSaved();
  EventWriter events(options.out / "events");
  ProgressLine progress("pretraining", options.steps);
  double smoothed = 0;
  for (std::int64_t step = run.steps_done(); step < options.steps; ++step) {
    const double loss = run.Update(step);
    if (!std::isfinite(loss)) {
      throw Error(StrCat("the loss became ", loss, " at update ", step), options.out.string(), "lower --learning-rate");
    }
    smoothed = smoothed == 0 ? loss : 0.98 * smoothed + 0.02 * loss;
    events.Scalar("loss", step, loss);
    progress.Update(step + 1, StrCat("loss ", smoothed));
    if ((step + 1) % options.save_every == 0) run.SaveState();
  }
  progress.Finish();
  run.SaveModel();
}

}  // namespace sgmd
