#include "launch/plan/plan_checks.h"

#include <algorithm>
#include <filesystem>

#include "common/error/error.h"
#include "common/storage/safetensors.h"

namespace sgmd {

void RequirePromptBank(const LaunchPlan& plan, const TomlOverrides& overrides) {
  std::string why;
  try {
    if (SafetensorsFile::Open(plan.experiment.model.prompts).metadata().contains("sgmd.prompts")) return;
    why = "its metadata has no \"sgmd.prompts\"";
  } catch (const Error& error) {
    why = error.message();
  }
  TomlOverrides of_model;
  std::ranges::copy_if(overrides, std::back_inserter(of_model), [](const auto& o) { return o.starts_with("model."); });
  TomlTable model = TomlFile::Open(plan.topology.run.experiment, of_model).root().Table("model");
  model.Fail("prompts", StrCat(plan.experiment.model.prompts.string(), " is not a prompt bank: ", why),
             "sgmd-encode makes one");
}

int GpusOfThisMachine() {
  int gpus = 0;
  while (std::filesystem::exists(StrCat("/dev/nvidia", gpus))) ++gpus;
  return gpus;
}

std::string MissingDevices(const LaunchPlan& plan, const std::string& host, int gpus) {
  std::string missing;
  for (const Placement& place : Placements(plan)) {
    const bool has = place.device.kind == Device::Kind::kCpu || place.device.ordinal < gpus;
    if (place.host == host && !has)
      missing += StrCat(missing.empty() ? "" : ", ", Spell(place.node), " on ", Spell(place.device));
  }
  return missing;
}

}  // namespace sgmd
