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

/// Writes out/report.md, and in out/videos/ contact_sheet.png and comparison.gif (a row a prompt, a column a model) and
/// student.gif (teacher over student, a column a prompt: small). Embedded data set only (three channels that are RGB).
/// Shows progress.
void CompareWithTeacher(const ComparisonOptions& options);

}  // namespace sgmd
