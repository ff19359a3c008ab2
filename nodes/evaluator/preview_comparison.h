// Decoded videos of students beside the teacher's.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nodes/evaluator/preview_measures.h"
#include "nodes/evaluator/preview_set.h"

namespace sgmd {

/// Holds the teacher's videos. Its frames stay in main memory (4 videos of 81 x 480 x 832: 0.4 GB); the teacher itself
/// is on the device only while they are drawn.
class PreviewComparison {
 public:
  /// `evaluation`: a folder, made where it is not there, that keeps the teacher's latents in teacher.safetensors; they
  /// are drawn unless it has those of this teacher, these prompts and settings. Throws Error as PreviewSet does.
  PreviewComparison(const Experiment& experiment, const Topology::Evaluator& settings,
                    const std::filesystem::path& evaluation);

  const PreviewSet& set() const { return set_; }

  /// Draws the student's videos on its own grid of steps, without guidance, and writes
  ///   <stem>-<n>.mp4   teacher | student, same noise and prompt n, from 1
  ///   <stem>.png       some frames of both, a row a prompt
  struct Compared {
    Measures measures;
    at::Tensor picture;  // that of <stem>.png, uint8 [H, W, 3]
  };
  Compared Compare(const WanExperts& student, const std::string& title, const std::filesystem::path& stem) const;

 private:
  std::vector<at::Tensor> TeacherLatents(const Topology::Evaluator& settings,
                                         const std::filesystem::path& evaluation) const;

  Experiment experiment_;
  PreviewSet set_;
  std::vector<at::Tensor> teacher_frames_;  // uint8 [F, H, W, 3]
  PreviewRecords teacher_;
};

/// Compares a finished student, a model folder, as above, and writes out/videos/student*, out/report.md.
void CompareByPreviews(const LaunchPlan& plan, const Topology::Evaluator& settings,
                       const std::filesystem::path& student, const std::filesystem::path& out);

}  // namespace sgmd
