// What a Diffusers pipeline folder holds beside the weights of its transformers.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nodes/exporter/diffusers_scheduler.h"
#include "nodes/exporter/export.h"

namespace sgmd {

/// Folders of the transformers: of one, or of two experts those for high and for low noise.
inline constexpr const char* kTransformerFolders[] = {"transformer", "transformer_2"};

/// model_index.json, with the parts that `base` (may be empty) names. Parts that are not in the folder are named all
/// the same: it is complete once they are put there. Throws Error where `base` is no Diffusers folder.
std::string IndexJson(const StudentSource& student, const DiffusersScheduler& scheduler,
                      const std::filesystem::path& base);

/// Links or copies text encoder, tokenizer and VAE of options.base into `folder`, and for a model of `config` that
/// takes CLIP tokens image_encoder/ and image_processor/; those that are still missing afterwards. Throws Error where
/// the base lacks one.
std::vector<std::string> TakeBase(const WanConfig& config, const ExportOptions& options,
                                  const std::filesystem::path& folder);

}  // namespace sgmd
