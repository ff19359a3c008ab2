#include "common/storage/checkpoint_store.h"

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

// A checkpoint that is whole, and not ours to go on from.
class CheckpointOfAnotherRun : public Error {
 public:
  using Error::Error;
};

// Empty when every file of the manifest whose name begins with `prefix` is there with its digest; otherwise what is
// wrong.
std::string ProblemOf(const CheckpointStore::Checkpoint& checkpoint, const std::string& prefix) {
  for (const auto& [name, digest] : checkpoint.manifest.files) {
    if (!name.starts_with(prefix)) continue;
    if (!std::filesystem::exists(checkpoint.folder / name)) return name + " is missing";
    if (DigestFile(checkpoint.folder / name) != digest) return name + " does not match its digest";
  }
  return {};
}

// Folders of committed checkpoints by their step.
std::map<std::int64_t, std::filesystem::path> Committed(const std::filesystem::path& folder) {
  std::map<std::int64_t, std::filesystem::path> steps;
  if (!std::filesystem::exists(folder)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (const auto step = StepOfFolderName(entry.path().filename().string())) steps[*step] = entry.path();
  }
  return steps;
}

}  // namespace

std::vector<std::filesystem::path> CheckpointStore::Checkpoint::FilesOf(std::string_view role,
                                                                        std::string_view state) const {
  std::vector<std::filesystem::path> files;
  for (const std::string& name : manifest.FilesOf(role, state, folder)) files.push_back(folder / name);
  return files;
}

CheckpointStore::CheckpointStore(std::filesystem::path folder, Digest experiment)
    : folder_(std::move(folder)), experiment_(experiment) {
  std::filesystem::create_directories(folder_);
}

CheckpointStore::Checkpoint CheckpointStore::OpenManifest(const std::filesystem::path& folder) const {
  CheckpointManifest manifest = CheckpointManifest::Read(folder);
  if (manifest.format != CheckpointManifest::kFormat) {
    throw CheckpointOfAnotherRun(
        "an earlier version of sgmd made this checkpoint", folder.string(),
        "that version drew its samples in another way, so no run can go on from it: use another "
        "run folder; sgmd-export still exports its student");
  }
  if (manifest.experiment != experiment_) {
    throw CheckpointOfAnotherRun("the checkpoint belongs to another experiment", folder.string(),
                                 "something that decides the weights was changed; use another run folder or undo the "
                                 "change");
  }
  return {manifest.step, folder, std::move(manifest)};
}

// Nothing, and a warning, when it is damaged.
std::optional<CheckpointStore::Checkpoint> CheckpointStore::OpenWhole(const std::filesystem::path& folder) const {
  std::string problem;
  try {
    Checkpoint checkpoint = OpenManifest(folder);
    problem = ProblemOf(checkpoint, "");
    if (problem.empty()) return checkpoint;
  } catch (const CheckpointOfAnotherRun&) {
    throw;
  } catch (const std::exception& error) {
    problem = error.what();
  }
  LogWarning("checkpoint ", folder.string(), " is damaged and is skipped: ", problem);
  return {};
}

CheckpointStore::Checkpoint CheckpointStore::At(std::int64_t step, std::string_view role) const {
  Checkpoint checkpoint = OpenManifest(folder_ / CheckpointFolderName(step));
  const std::string problem = ProblemOf(checkpoint, std::string(role) + ".");
  if (!problem.empty())
    throw Error(problem, checkpoint.folder.string(), "the checkpoint is damaged; start the run again");
  return checkpoint;
}

std::optional<CheckpointStore::Checkpoint> CheckpointStore::Newest() const {
  const auto committed = Committed(folder_);
  for (auto it = committed.rbegin(); it != committed.rend(); ++it) {
    if (auto checkpoint = OpenWhole(it->second)) return checkpoint;
  }
  return {};
}

bool CheckpointStore::Any() const { return !Committed(folder_).empty(); }

std::vector<CheckpointStore::Checkpoint> CheckpointStore::All() const {
  std::vector<Checkpoint> whole;
  for (const auto& [step, folder] : Committed(folder_)) {
    if (auto checkpoint = OpenWhole(folder)) whole.push_back(*std::move(checkpoint));
  }
  return whole;
}

std::filesystem::path CheckpointStore::Stage(std::int64_t step) const {
  const std::filesystem::path staged = StagingFolder(folder_ / CheckpointFolderName(step));
  std::filesystem::create_directories(staged);
  return staged;
}

void CheckpointStore::Discard(std::int64_t step) const {
  std::filesystem::remove_all(StagingFolder(folder_ / CheckpointFolderName(step)));
}

void CheckpointStore::Commit(std::int64_t step, const std::map<std::string, Digest>& files, std::int64_t keep,
                             std::int64_t pinned) const {
  CheckpointManifest manifest;
  manifest.step = step;
  manifest.experiment = experiment_;
  manifest.files = files;
  if (failpoint::Fails("checkpoint.before_manifest")) ThrowErrno("cannot write the manifest", Stage(step).string());
  manifest.Write(Stage(step));
  if (failpoint::Fails("checkpoint.before_rename")) ThrowErrno("cannot rename into place", Stage(step).string());
  CommitFolder(folder_ / CheckpointFolderName(step));
  failpoint::Hit("checkpoint.after_rename");
  auto steps = Committed(folder_);
  steps.erase(steps.upper_bound(step), steps.end());
  for (auto left = static_cast<std::int64_t>(steps.size()) - keep; left > 0; --left) {
    if (steps.begin()->first != pinned) std::filesystem::remove_all(steps.begin()->second);
    steps.erase(steps.begin());
  }
}

}  // namespace sgmd
