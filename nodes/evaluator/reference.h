// What students are measured against: videos of the many-step teacher and of the data.
#pragma once

#include <cstdint>
#include <filesystem>

#include "common/config/topology.h"
#include "nodes/evaluator/arms.h"
#include "nodes/evaluator/measures.h"

namespace sgmd {

struct EvaluationSettings {
  std::filesystem::path features;   // see LoadVideoFeatures
  std::int64_t samples = 256;       // videos behind each figure, >= 64
  std::int64_t teacher_steps = 50;  // of the reference, >= 1
  std::uint64_t seed = 1000;        // of noise and data
  std::filesystem::path reference;  // file that keeps the teacher's videos; runs of one teacher may share it
};

/// As [evaluator] of the topology says; the reference is kept in the run folder.
EvaluationSettings SettingsOf(const Topology& topology);

/// Draws the teacher's videos unless the file has them for the same teacher, prompts and settings. Embedded data set
/// only (three channels that are RGB), otherwise throws Error.
class Reference {
 public:
  Reference(const Experiment& experiment, EvaluationSettings settings);
  Reference(const Reference&) = delete;

  const EvaluationSettings& settings() const { return settings_; }
  const WanTransformer& teacher() const { return teacher_; }
  const Arm& arm() const { return arm_; }  // the many-step teacher
  const Measurer& measurer() const { return measurer_; }
  std::int64_t prompts() const { return static_cast<std::int64_t>(bank_.prompts().size()); }

  /// Fills arm.videos from the noise and prompts that the reference started from, or from those of another seed.
  void Draw(Arm& arm) const { Draw(arm, settings_.seed); }
  void Draw(Arm& arm, std::uint64_t seed) const;
  /// As many videos of the data; two purposes are two sets.
  at::Tensor Data(const char* purpose) const;

 private:
  Measurer MakeMeasurer();

  Experiment experiment_;
  EvaluationSettings settings_;
  PromptBank bank_;
  WanTransformer teacher_;
  Arm arm_;
  Measurer measurer_;
};

}  // namespace sgmd
