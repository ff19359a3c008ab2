// What students are measured against: videos of the many-step teacher and of the data.
#pragma once

#include <cstdint>
#include <filesystem>

#include "common/config/topology.h"
#include "nodes/evaluator/arms.h"
#include "nodes/evaluator/measures.h"

namespace sgmd {

struct EvaluationSettings {
  std::filesystem::path features;    // see LoadVideoFeatures
  std::int64_t samples = 512;        // videos behind each figure, >= 10 for each dimension of the features
  std::int64_t teacher_steps = 50;   // of the reference, >= 1
  std::optional<double> guidance{};  // w of the teacher that students are compared with; else that of its scores
  std::uint64_t seed = 1000;         // of noise and data; arms and the floor take the next one
  std::filesystem::path reference;   // file that keeps the teacher's videos; runs of one teacher may share it
};

/// As [evaluator] of the topology says; the reference is kept in the run folder.
EvaluationSettings SettingsOf(const Topology& topology);

/// Draws the teacher's videos twice, from two sets of noise, unless the file has them for the same teacher, prompts and
/// settings. The first are the reference. All else starts from the second set of noise, the teacher drawn again too:
/// its distance to the reference is the floor that a student's can be compared with, and its videos are those to show
/// beside a student's. Embedded data set only (three channels that are RGB), otherwise throws Error.
class Reference {
 public:
  Reference(const Experiment& experiment, EvaluationSettings settings);
  Reference(const Reference&) = delete;

  const EvaluationSettings& settings() const { return settings_; }
  const WanExperts& teacher() const { return teacher_; }
  const Arm& arm() const { return arm_; }      // the many-step teacher: the reference
  const Arm& again() const { return again_; }  // the same from the noise of all others
  const Measurer& measurer() const { return measurer_; }
  const Measures& floor() const { return floor_; }  // of again()
  Guidance guidance() const {                       // of the teacher
    return settings_.guidance ? Guidance(*settings_.guidance) : GuidanceOf(experiment_);
  }
  const std::vector<std::string>& prompts() const { return bank_.texts(); }

  /// Throws Error when the prompts are not ones that `model` reads.
  void RequireFits(const WanExperts& model) const {
    bank_.RequireFits(model.config().text_dim, model.config().text_len);
  }
  /// Fills arm.videos from the prompts of the reference and the noise that again() started from.
  void Draw(Arm& arm) const { Draw(arm, settings_.seed + 1); }
  /// As many videos of the data, stratified (DrawBallsInTurn); two purposes are two sets.
  at::Tensor Data(const char* purpose) const;

 private:
  Measurer MakeMeasurer();
  std::string Identity() const;
  void Draw(Arm& arm, std::uint64_t seed) const;

  Experiment experiment_;
  EvaluationSettings settings_;
  PromptBank bank_;
  WanExperts teacher_;
  Arm arm_, again_;
  Measurer measurer_;
  Measures floor_;
};

}  // namespace sgmd
