// What is exported: the student of a run, of one of its checkpoints, or any model that sgmd loads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "common/config/experiment.h"
#include "common/storage/sharded_safetensors.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

enum class WeightsChoice { kBest, kEma, kRaw };  // kBest: the average where there is one

struct StudentSource {
  WanConfig config;
  ShardedSafetensors weights;            // mapped; original or Diffusers names, or `adapters`
  std::string kind;                      // "ema", "raw", or empty where the file does not say
  std::optional<std::int64_t> step;      // outer iterations behind the weights
  std::optional<Experiment> experiment;  // as resolved by the run
  std::filesystem::path run;             // the run folder; empty where there is none
  bool adapters = false;  // `weights` are adapters over the experiment's teacher: a LoRA run's checkpoint
  std::string identity;   // ExperimentDigest in a checkpoint's manifest; empty of other sources
};

/// `source` is a run folder (its newest checkpoint is taken, or its student/ where no checkpoint is left), a checkpoint
/// folder (…/checkpoints/step-*), the student/ of a run, or a model (FindModel). Throws Error when a checkpoint's file
/// does not match its digest, when the weights asked for are not there, or as FindModel does.
StudentSource OpenStudent(const std::filesystem::path& source, WeightsChoice choice);

}  // namespace sgmd
