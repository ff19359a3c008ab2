// Students in the forms that other tools load (wan_facts §6 "Student export"). Weights go from the mapped source to the
// file one tensor at a time; every export is built under a temporary name, checked there, and renamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "common/storage/tensor_view.h"
#include "nodes/exporter/student_source.h"

namespace sgmd {

struct ExportOptions {
  DType dtype = DType::kF32;   // kF32 or kBF16 (round to nearest even)
  bool verify = true;          // read back what was written and compare its bytes
  bool overwrite = false;      // an earlier export may be replaced
  double shard_gib = 5.0;      // Diffusers: at most so much a file, > 0 (a larger tensor gets a file of its own)
  std::filesystem::path base;  // Diffusers: folder to take text_encoder/, vae/ and the like from; may be empty
  bool copy_base = false;      // copies instead of symbolic links
};

/// A Diffusers pipeline folder: model_index.json, scheduler/, transformer/, README.md, and the parts of `base`. Of two
/// experts transformer/ is the one for high noise and transformer_2/ the other, both whole whichever was trained.
/// Throws Error when `folder` exists and is not empty (with `overwrite`: unless it is a Diffusers folder), on a failed
/// check, and when the disk is full; then nothing is left under the final name.
void ExportDiffusers(const StudentSource& student, const ExportOptions& options, const std::filesystem::path& folder);

/// One file under original names, for ComfyUI, LightX2V and diffusers' from_single_file, with config.json and README.md
/// beside it; of two experts a file of each that was trained (ExpertFile). Returns the files. Throws Error when one
/// exists (without `overwrite`), when the folder has another model's config.json or a README.md that is not an
/// export's, and as above.
std::vector<std::filesystem::path> ExportOriginal(const StudentSource& student, const ExportOptions& options,
                                                  const std::filesystem::path& file);

/// The adapters of a LoRA run in a file of their own, for ComfyUI, LightX2V and diffusers (WriteLora), with README.md
/// beside it; of two experts likewise. Throws Error when the source is no checkpoint of adapters, when the folder holds
/// a model or a README.md that is not an export's, and as above. The other two write such a source merged.
std::vector<std::filesystem::path> ExportLora(const StudentSource& student, const ExportOptions& options,
                                              const std::filesystem::path& file);

}  // namespace sgmd
