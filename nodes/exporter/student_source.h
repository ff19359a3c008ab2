// What is exported: the student of a run, of one of its checkpoints, or any model that sgmd loads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "common/storage/sharded_safetensors.h"
#include "pipeline/models/wan_config.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

enum class WeightsChoice { kBest, kEma, kRaw };  // kBest: the average where there is one

/// One transformer of a student.
struct StudentExpert {
  std::string name;  // of two: kHighNoiseExpert, kLowNoiseExpert; else empty
  /// Mapped; original or Diffusers names, or adapters. Nothing where the source does not have them: those of the model
  /// that the student started from, of an expert that was not trained.
  std::optional<ShardedSafetensors> weights;
  std::string prefix;   // before the names of its tensors there, such as "high_noise_model."
  bool trained = true;  // [schedule] experts
};

struct StudentSource {
  WanConfig config;                      // of each expert
  std::vector<StudentExpert> experts;    // all of the model: one, or two, the one for high noise first
  double boundary = 0;                   // of two: the noise level from which on the first is used; else 0
  std::filesystem::path weights;         // file, or folder of two experts, that they are in: for messages
  std::string kind;                      // "ema", "raw", or empty where the file does not say
  std::optional<std::int64_t> step;      // outer iterations behind the weights
  std::optional<Experiment> experiment;  // as resolved by the run
  std::filesystem::path run;             // the run folder; empty where there is none
  bool adapters = false;  // what was trained are adapters over the model that it started from: a LoRA run's checkpoint
  std::string identity;   // ExperimentDigest in a checkpoint's manifest; empty of other sources

  /// Whether its videos begin with a picture: always, or of TI2V-5B, which makes videos either way, where the prompts
  /// that it was trained on, if they are still there, had first frames.
  bool begins_with_picture = false;

  bool has_two_experts() const { return experts.size() > 1; }
  std::vector<StudentExpert> Trained() const;
};

/// `source` is a run folder (its newest checkpoint is taken, or its student/ where no checkpoint is left), a checkpoint
/// folder (…/checkpoints/step-*), the student/ of a run, or a model (FindExperts). The boundary is the experiment's,
/// else that of the model's folder. Throws Error when a checkpoint's file does not match its digest, when the weights
/// asked for are not there, on two experts of other sizes than each other, or as FindExperts does.
StudentSource OpenStudent(const std::filesystem::path& source, WeightsChoice choice);

/// The adapters of a trained expert of a source of adapters, under the names that its model has for them. Throws Error
/// as ReadAdapters does.
NamedTensors AdaptersOf(const StudentExpert& expert);

/// What the file of a transformer is called where `file` is asked for: itself, or of two experts
/// student_high_noise.safetensors and student_low_noise.safetensors for student.safetensors.
std::filesystem::path ExpertFile(const std::filesystem::path& file, const std::string& expert);

}  // namespace sgmd
