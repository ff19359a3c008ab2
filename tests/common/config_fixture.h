// An experiment file beside a model's files, to be changed and read.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "common/config/experiment.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {

inline constexpr char kExperiment[] = R"([experiment]
name = "t"
steps = 4
[model]
teacher = "model"
prompts = "bank"
guidance = 2
[data]
latent = [3, 4, 4, 4]
[optimizer.generator]
learning_rate = 1e-4
[optimizer.fake_score]
learning_rate = 1e-4
)";

class ConfigFixture : public testing::Test {
 protected:
  ConfigFixture() {
    std::filesystem::create_directories(folder_ / "model");
    WriteFileAtomically(folder_ / "model/config.json", "{}");
    WriteFileAtomically(folder_ / "model/m.safetensors", "weights");
    WriteFileAtomically(folder_ / "bank", "bank");
  }
  Experiment Load(const std::string& text) {
    WriteFileAtomically(folder_ / "e.toml", text);
    return LoadExperiment(folder_ / "e.toml");
  }
  std::string ErrorOf(const std::string& text) {
    try {
      Load(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string With(const std::string& section, const std::string& line) {
    std::string text = kExperiment;
    const std::size_t at = text.find(section);
    return at == std::string::npos ? text + section + "\n" + line + "\n"
                                   : text.insert(at + section.size() + 1, line + "\n");
  }
  TempFolder folder_;
};

}  // namespace sgmd
