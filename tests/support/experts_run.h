// A tiny run whose models are two experts, of high and of low noise, in the folder experts/.
#pragma once

#include <string>

#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"
#include "tests/support/tiny_run.h"

namespace sgmd {

/// `models`: further lines of [model].
class ExpertsRun : public TinyRun {
 public:
  explicit ExpertsRun(std::int64_t steps, const std::string& experiment = "", const std::string& topology = "",
                      int micro_batches = 3, const std::string& models = "")
      : TinyRun(steps, experiment, topology) {
    WriteTinyExperts(folder() / "experts");
    std::string text = ReadFile(folder() / "experiment.toml");
    const std::string teacher = "teacher = \"model\"", batches = "micro_batches = ";
    text.replace(text.find(teacher), teacher.size(), models + "teacher = \"experts\"");
    text.replace(text.find(batches) + batches.size(), 1, std::to_string(micro_batches));
    WriteFileAtomically(folder() / "experiment.toml", text);
  }
};

}  // namespace sgmd
