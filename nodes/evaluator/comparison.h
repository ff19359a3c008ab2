// Teacher at many steps, teacher at the student's steps and student, from the same noise and prompts, against the data.
#pragma once

#include <filesystem>

#include "nodes/evaluator/reference.h"

namespace sgmd {

struct ComparisonOptions {
  Experiment experiment;          // teacher, prompts, guidance, student grid, latent shape
  EvaluationSettings evaluation;  // the reference, and how many videos
  std::filesystem::path student;  // model folder
  std::filesystem::path out;      // report.md, videos/
};

/// Writes out/videos/comparison.gif, out/videos/contact_sheet.png and out/report.md. Embedded data set only (three
/// channels that are RGB). Shows progress.
void CompareWithTeacher(const ComparisonOptions& options);

}  // namespace sgmd
