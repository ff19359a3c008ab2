// A tiny run for image-to-video, whose prompts have first frames of random latents.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/random.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {

/// CLIP tokens of a tiny run, and their width.
inline constexpr std::int64_t kTinyClipTokens = 5, kTinyClipWidth = 16;

/// Gives every prompt of a bank two first frames, so that it has twice as many entries: frame i goes with prompts i and
/// i + 1.
inline void AddFirstFrames(const std::filesystem::path& path, const FirstFrames& frames) {
  const SafetensorsFile file = SafetensorsFile::Open(path);
  const PromptBank bank = PromptBank::Open(path);
  Metadata metadata = file.metadata();
  metadata[kImageEncoderKey] = "random";
  std::vector<TensorView> tensors(file.tensors().begin(), file.tensors().end());
  std::vector<at::Tensor> made;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    made.push_back(tensor);
    tensors.push_back(ViewOf(name, tensor));
  };
  std::vector<std::string> texts, images;
  const std::size_t count = bank.texts().size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = DigestText(StrCat("picture ", i)).Hex();
    add(ImageTensor(name), Noise(frames.latent, SeedFor(5, 0, static_cast<std::int64_t>(i), "image")));
    if (frames.clip_dim > 0) {
      add(ClipTensor(name),
          Noise({kTinyClipTokens, frames.clip_dim}, SeedFor(5, 0, static_cast<std::int64_t>(i), "clip")));
    }
    for (const std::size_t text : {i, (i + 1) % count}) {
      texts.push_back(bank.texts()[text]);
      images.push_back(name);
    }
  }
  WritePromptBank(path, tensors, texts, metadata.at("sgmd.negative"), metadata, images);
}

/// How the model of a run is given its first frame: beside its latents, with CLIP tokens, or in their place.
enum class FirstFrameForm { kBeside, kWithClip, kHeld };

/// A tiny run whose model, or whose two experts, are given a first frame. Biases have a multiple of 16 elements: on the
/// stand-in device the rest of a vector is rounded in another way, and ranks have other rests.
class ImageRun : public TinyRun {
 public:
  explicit ImageRun(std::int64_t steps, FirstFrameForm form, const std::string& experiment = "",
                    const std::string& topology = "", int micro_batches = 3, bool experts = false)
      : TinyRun(steps, experiment, topology) {
    const bool held = form == FirstFrameForm::kHeld;
    const std::int64_t channels = held ? 4 : 3;
    WanConfig config = TinyModelConfig(24, channels);
    config.model_type = held ? "ti2v" : "i2v";
    if (held) config.patch_size = {1, 2, 2};
    if (!held) config.in_dim = 2 * config.out_dim + WanConfig::kMaskChannels;
    config.image_dim = form == FirstFrameForm::kWithClip ? kTinyClipWidth : 0;
    WriteTinyModel(folder() / "model", config, 1);
    for (const char* name : {kHighNoiseExpert, kLowNoiseExpert})
      WriteTinyModel(folder() / "experts" / name, config, name == std::string(kHighNoiseExpert) ? 1 : 3);
    AddFirstFrames(bank(), {{channels, held ? 1 : 4, 4, 4}, config.image_dim});
    std::string text = ReadFile(folder() / "experiment.toml");
    const std::string teacher = "teacher = \"model\"", batches = "micro_batches = ", latent = "latent = [";
    text.replace(text.find(latent) + latent.size(), 1, std::to_string(channels));
    if (experts) text.replace(text.find(teacher), teacher.size(), "teacher = \"experts\"");
    text.replace(text.find(batches) + batches.size(), 1, std::to_string(micro_batches));
    WriteFileAtomically(folder() / "experiment.toml", text);
  }
  std::filesystem::path bank() const { return folder() / "model/prompt_bank.safetensors"; }
};

}  // namespace sgmd
