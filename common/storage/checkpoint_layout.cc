#include "common/storage/checkpoint_layout.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr char kManifest[] = "MANIFEST.json", kStepPrefix[] = "step-", kFileEnd[] = ".safetensors";

}  // namespace

std::string StateFileName(std::string_view role, std::string_view state, int rank, int ranks) {
  return StrCat(role, ".", state, ranks == 1 ? "" : StrCat(".", rank, "-of-", ranks), kFileEnd);
}

std::string CheckpointFolderName(std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "%s%08lld", kStepPrefix, static_cast<long long>(step));
  return name;
}

std::optional<std::int64_t> StepOfFolderName(std::string_view name) {
  long long step = 0;
  if (std::sscanf(std::string(name).c_str(), "step-%lld", &step) != 1 || CheckpointFolderName(step) != name) return {};
  return step;
}

CheckpointManifest CheckpointManifest::Read(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifest;
  const auto json = nlohmann::json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  CheckpointManifest manifest;
  try {
    manifest.format = json.value("format", 1);
    manifest.step = json.at("step").get<std::int64_t>();
    manifest.experiment = Digest::FromHex(json.at("experiment").get<std::string>());
    for (const auto& [name, digest] : json.at("files").items()) {
      manifest.files[name] = Digest::FromHex(digest.get<std::string>());
    }
  } catch (const nlohmann::json::exception&) {
    throw Error("this is not the manifest of a checkpoint", path.string());
  }
  if (manifest.format > kFormat) {
    throw Error(StrCat("the checkpoint has format ", manifest.format, ", this sgmd reads up to ", kFormat),
                path.string(), "a newer sgmd wrote it");
  }
  return manifest;
}

void CheckpointManifest::Write(const std::filesystem::path& folder) const {
  nlohmann::ordered_json json{{"format", format}, {"step", step}, {"experiment", experiment.Hex()}};
  for (const auto& [name, digest] : files) json["files"][name] = digest.Hex();
  WriteFileAtomically(folder / kManifest, json.dump(2) + "\n");
}

std::vector<std::string> CheckpointManifest::FilesOf(std::string_view role, std::string_view state,
                                                     const std::filesystem::path& folder) const {
  if (const std::string name = StateFileName(role, state); files.contains(name)) return {name};
  const std::string prefix = StrCat(role, ".", state, ".0-of-");
  const auto first = files.lower_bound(prefix);
  int ranks = 0;
  if (first == files.end() || std::sscanf(first->first.c_str(), (prefix + "%d").c_str(), &ranks) != 1) return {};
  std::vector<std::string> names;
  for (int rank = 0; rank < ranks; ++rank) {
    names.push_back(StateFileName(role, state, rank, ranks));
    if (!files.contains(names.back())) {
      throw Error(names.back() + " is missing in the checkpoint", folder.string(), "take another checkpoint");
    }
  }
  return names;
}

std::vector<std::filesystem::path> StateFilesIn(const std::filesystem::path& folder, std::string_view role,
                                                std::string_view state) {
  CheckpointManifest there;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) there.files[entry.path().filename()] = {};
  std::vector<std::filesystem::path> paths;
  for (const std::string& name : there.FilesOf(role, state, folder)) paths.push_back(folder / name);
  if (paths.empty()) throw Error(StateFileName(role, state) + " is missing in the checkpoint", folder.string());
  return paths;
}

}  // namespace sgmd
