// A tiny run whose latents have 16 channels, with a VAE that decodes them to 5 frames of 32 x 32 pixels.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/storage/atomic_folder.h"
#include "tests/support/tiny_run.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {

/// The VAE is in vae/ of its folder; ten checkpoints are kept.
class LatentRun : public TinyRun {
 public:
  explicit LatentRun(std::int64_t steps, const std::string& topology = "", const std::string& experiment = "")
      : TinyRun(steps, "keep = 10\n" + experiment, topology) {
    WriteTinyModel(folder() / "model", 1, 24, 16);
    SaveTinyVae(TinyVae(/*residual=*/false), folder() / "vae");
    std::string text = ReadFile(folder() / "experiment.toml");
    const std::string latent = "latent = [3, 4, 4, 4]";
    WriteFileAtomically(folder() / "experiment.toml",
                        text.replace(text.find(latent), latent.size(), "latent = [16, 2, 4, 4]"));
  }
  std::filesystem::path evaluation() const { return run() / "evaluation"; }
  std::vector<nlohmann::json> Metrics() const {
    std::vector<nlohmann::json> lines;
    std::ifstream file(evaluation() / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
};

}  // namespace sgmd
