// The part of an exported student's README.md that says with which settings each tool is to run it.
#pragma once

#include <string>
#include <vector>

#include "common/error/error.h"
#include "nodes/exporter/student_source.h"

namespace sgmd {

enum class ExportForm { kDiffusers, kOriginal, kLora };

/// "[a, b]".
std::string CardList(const auto& values) {
  std::string text;
  for (const auto& value : values) text += StrCat(text.empty() ? "" : ", ", value);
  return "[" + text + "]";
}

/// A model whose latents are the pixels themselves: no VAE goes with it, and no pipeline of other tools.
inline bool InRgb(const StudentSource& student) { return student.config.out_dim == 3; }

/// What it makes videos of, as Hugging Face names tasks.
inline const char* TaskOf(const StudentSource& student) {
  return student.begins_with_picture ? "image-to-video" : "text-to-video";
}

/// The pipeline of diffusers that runs it.
inline const char* PipelineOf(const StudentSource& student) {
  return student.begins_with_picture ? "WanImageToVideoPipeline" : "WanPipeline";
}

/// "## Settings". `name` and `missing` as of ModelCard.
std::string SettingsSection(const StudentSource& student, ExportForm form, const std::string& name,
                            const std::vector<std::string>& missing);

}  // namespace sgmd
