#include "common/storage/checkpoint_store.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr char kManifest[] = "MANIFEST.json";

// Empty when every file of the manifest is there with its digest; otherwise what is wrong.
std::string Verify(const std::filesystem::path& folder, const nlohmann::json& manifest) {
  for (const auto& [name, digest] : manifest.at("files").items()) {
    if (!std::filesystem::exists(folder / name)) return name + " is missing";
    if (DigestFile(folder / name).Hex() != digest.get<std::string>()) return name + " does not match its digest";
  }
  return {};
}

// Committed step folders, oldest first. The fixed-width name sorts by step.
std::vector<std::filesystem::path> Committed(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> steps;
  if (!std::filesystem::exists(folder)) return steps;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("step-")) steps.push_back(entry.path());
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

}  // namespace

CheckpointStore::CheckpointStore(std::filesystem::path folder, Digest experiment)
    : folder_(std::move(folder)), experiment_(experiment) {
  std::filesystem::create_directories(folder_);
}

std::filesystem::path CheckpointStore::Folder(std::int64_t step) const {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return folder_ / name;
}

// Nothing, and a warning, when it is not whole.
std::optional<CheckpointStore::Checkpoint> CheckpointStore::Open(const std::filesystem::path& folder) const {
  std::string problem;
  try {
    const auto manifest = nlohmann::json::parse(ReadFile(folder / kManifest));
    problem = Verify(folder, manifest);
    if (problem.empty()) {
      if (manifest.at("experiment").get<std::string>() != experiment_.Hex()) {
        throw Error("the checkpoint belongs to another experiment", folder.string(),
                    "something that decides the weights was changed; use another run folder or undo the change");
      }
      return Checkpoint{manifest.at("step").get<std::int64_t>(), folder};
    }
  } catch (const nlohmann::json::exception& error) {
    problem = error.what();
  }
  LogWarning("skipping checkpoint ", folder.string(), ": ", problem);
  return {};
}

std::optional<CheckpointStore::Checkpoint> CheckpointStore::Newest() const {
  for (auto steps = Committed(folder_); !steps.empty(); steps.pop_back()) {
    if (auto checkpoint = Open(steps.back())) return checkpoint;
  }
  return {};
}

std::vector<CheckpointStore::Checkpoint> CheckpointStore::All() const {
  std::vector<Checkpoint> whole;
  for (const auto& folder : Committed(folder_)) {
    if (auto checkpoint = Open(folder)) whole.push_back(*std::move(checkpoint));
  }
  return whole;
}

std::filesystem::path CheckpointStore::Stage(std::int64_t step) const {
  const std::filesystem::path staged = StagingFolder(Folder(step));
  std::filesystem::create_directories(staged);
  return staged;
}

void CheckpointStore::Commit(std::int64_t step, const std::map<std::string, Digest>& files, std::int64_t keep) const {
  nlohmann::ordered_json manifest{{"step", step}, {"experiment", experiment_.Hex()}};
  for (const auto& [name, digest] : files) manifest["files"][name] = digest.Hex();
  WriteFileAtomically(Stage(step) / kManifest, manifest.dump(2) + "\n");
  CommitFolder(Folder(step));
  auto steps = Committed(folder_);
  for (; static_cast<std::int64_t>(steps.size()) > keep; steps.erase(steps.begin())) {
    std::filesystem::remove_all(steps.front());
  }
}

}  // namespace sgmd
