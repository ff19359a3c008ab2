// What a checkpoint is on disk: the names of its folder and files, and its manifest. Nothing else spells them.
//
//   checkpoints/step-<8 digits>/MANIFEST.json
//                              /<role>.<state>.safetensors               of a role of one rank
//                              /<role>.<state>.<rank>-of-<ranks>.safetensors
//
// role: generator, fake_score; state: one of the constants below. Tensors lie in the files as tensor_part.h says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest/digest.h"

namespace sgmd {

/// States of a trained role: what is trained; the optimizer's moments; the average of the weights; the samples that
/// the fake score's inner loop replays.
inline constexpr std::string_view kModelState = "model", kOptimizerState = "optimizer", kAverageState = "ema",
                                  kSamplesState = "samples";

/// Name of the file that `rank` of `ranks` ranks of `role` writes.
std::string StateFileName(std::string_view role, std::string_view state, int rank = 0, int ranks = 1);

/// "step-00000040".
std::string CheckpointFolderName(std::int64_t step);
/// The step of such a name; nothing of any other name.
std::optional<std::int64_t> StepOfFolderName(std::string_view name);

/// MANIFEST.json: {"format": 2, "step", "experiment", "files": {name: digest}}. Format 1 had no "format" key; its
/// weights can be read, but a run cannot go on from it, because draws were made in another way then.
struct CheckpointManifest {
  static constexpr int kFormat = 2;

  int format = kFormat;
  std::int64_t step = 0;                // updates done
  Digest experiment;                    // ExperimentDigest
  std::map<std::string, Digest> files;  // by name, every file but the manifest

  /// Throws Error when the file is missing or is no manifest.
  static CheckpointManifest Read(const std::filesystem::path& folder);
  void Write(const std::filesystem::path& folder) const;

  /// The files of one state in order of rank; empty when the checkpoint has none. Throws Error, located at `folder`,
  /// when the file of a rank is missing.
  std::vector<std::string> FilesOf(std::string_view role, std::string_view state,
                                   const std::filesystem::path& folder) const;
};

/// CheckpointManifest::FilesOf of the files that are there, in order of rank, with their folder.
std::vector<std::filesystem::path> StateFilesIn(const std::filesystem::path& folder, std::string_view role,
                                                std::string_view state);

}  // namespace sgmd
