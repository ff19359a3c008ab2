// Teacher at many steps, teacher at the student's steps and student, from the same noise and prompts, against the data.
#pragma once

#include <cstdint>
#include <filesystem>

#include "common/config/experiment.h"

namespace sgmd {

struct ComparisonOptions {
  Experiment experiment;           // teacher, prompts, guidance, student grid, latent shape
  std::filesystem::path student;   // model folder
  std::filesystem::path features;  // see LoadVideoFeatures
  std::filesystem::path out;       // report.md, videos/
  std::int64_t samples = 512;      // videos behind the figures, >= 64
  std::int64_t teacher_steps = 50;
  std::uint64_t seed = 1000;
};

/// Writes out/videos/comparison.gif, out/videos/contact_sheet.png and out/report.md. Embedded data set only (three
/// channels that are RGB). Shows progress.
void CompareWithTeacher(const ComparisonOptions& options);

}  // namespace sgmd
