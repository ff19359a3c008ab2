#include "launch/run_control.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <charconv>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kPatience{5};

std::filesystem::path LockPath(const std::filesystem::path& run_folder) { return run_folder / ".lock"; }

}  // namespace

RunLock::RunLock(const std::filesystem::path& run_folder) {
  std::filesystem::create_directories(run_folder);
  fd_ = ::open(LockPath(run_folder).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) ThrowErrno("cannot open", LockPath(run_folder).string());
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    throw Error(StrCat("a run is already up in this folder, by process ", ReadFile(LockPath(run_folder))), run_folder.string(),
                "sgmd-launch status shows it, sgmd-launch down ends it");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0) ThrowErrno("cannot write", LockPath(run_folder).string());
}

RunLock::~RunLock() { ::close(fd_); }

int RunLock::HolderOf(const std::filesystem::path& run_folder) {
  const int fd = ::open(LockPath(run_folder).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return 0;
  const bool free = ::flock(fd, LOCK_SH | LOCK_NB) == 0;
  ::close(fd);
  return free ? 0 : std::atoi(ReadFile(LockPath(run_folder)).c_str());
}

std::uint64_t CurrentEpoch(const std::filesystem::path& run_folder) {
  const std::filesystem::path path = RunFolder{run_folder}.Epoch();
  if (!std::filesystem::exists(path)) return 0;
  const std::string text = ReadFile(path);
  std::uint64_t epoch = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), epoch).ec != std::errc()) {
    throw Error("not a number: " + text, path.string());
  }
  return epoch;
}

std::uint64_t NextEpoch(const std::filesystem::path& run_folder) {
  const std::uint64_t epoch = CurrentEpoch(run_folder) + 1;
  WriteFileAtomically(RunFolder{run_folder}.Epoch(), std::to_string(epoch));
  return epoch;
}

std::filesystem::path FindRunFolder(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return std::filesystem::absolute(path);
  return LoadLaunchPlan(path).topology.run_folder;
}

std::unique_ptr<Client> ConnectToRun(const std::filesystem::path& run_folder) {
  if (RunLock::HolderOf(run_folder) == 0) {
    throw Error("no run is up in this folder", run_folder.string(), "start it with sgmd-launch up <topology.toml>");
  }
  const LaunchPlan plan = LoadRun(run_folder);
  const NodeIdentity identity{StrCat("client.", ::getpid()), ExperimentDigest(plan.experiment), CurrentEpoch(run_folder)};
  return std::make_unique<Client>(plan.topology.control_endpoint, identity, Envelope{}, kPatience);
}

std::string RequestStatus(Client& client) {
  Envelope request;
  request.kind = wire::Kind::StatusRequest;
  client.Send(request);
  while (const auto answer = client.Receive(kPatience)) {
    if (answer->kind == wire::Kind::Status) return answer->text;
  }
  throw Error("the broker does not answer a status request");
}

}  // namespace sgmd
