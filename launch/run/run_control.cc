#include "launch/run/run_control.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <climits>
#include <sstream>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_store.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kPatience{5};

std::filesystem::path LockPath(const std::filesystem::path& run_folder, const std::string& further_host = {}) {
  return run_folder / (further_host.empty() ? ".lock" : ".lock." + further_host);
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run_folder, const std::string& further_host) {
  std::filesystem::create_directories(run_folder);
  const std::filesystem::path path = LockPath(run_folder, further_host);
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) ThrowErrno("cannot open", path.string());
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      ThrowErrno("cannot lock", path.string(), "the run folder needs a file system with locks (flock)");
    ::close(fd_);
    throw Error(StrCat("a run is already up in this folder, by process ", ReadFile(path)), run_folder.string(),
                "sgmd-launch status shows it, sgmd-launch down ends it");
  }
  const std::string holder = StrCat(::getpid(), " on ", ThisMachine());
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, holder.data(), holder.size(), 0) < 0)
    ThrowErrno("cannot write", path.string());
}

RunLock::~RunLock() { ::close(fd_); }

std::optional<RunLock::Holder> RunLock::HolderOf(const std::filesystem::path& run_folder) {
  const int fd = ::open(LockPath(run_folder).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return {};
  const bool free = ::flock(fd, LOCK_SH | LOCK_NB) == 0;
  ::close(fd);
  if (free) return {};
  Holder holder;
  std::string on;
  std::istringstream(ReadFile(LockPath(run_folder))) >> holder.pid >> on >> holder.machine;
  return holder;
}

std::string RunLock::ThisMachine() {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof name) != 0) ThrowErrno("cannot tell the name of", "this machine");
  return name;
}

RunStart BeginStart(const LaunchPlan& plan, std::int64_t until) {
  const RunFolder folder{plan.topology.run.folder};
  const CheckpointStore checkpoints(folder.Checkpoints(), ExperimentDigest(plan.experiment));
  const auto newest = checkpoints.Newest();
  if (!newest && checkpoints.Any()) {
    throw Error("the run has checkpoints, and none of them is whole", folder.Checkpoints().string(),
                StrCat("repair one of them, or begin again at step 0: mv ", folder.Checkpoints().string(), " ",
                       folder.Checkpoints().string(), ".damaged"));
  }
  const RunStart start{NextEpoch(folder), newest ? newest->step : 0, until};
  WriteRunStart(folder, start);
  std::filesystem::remove_all(folder.Groups());  // no rank meets one of an earlier start
  std::filesystem::create_directories(folder.Groups());
  return start;
}

void WriteOutcome(const std::filesystem::path& run_folder, std::uint64_t epoch, int exit_code) {
  WriteFileAtomically(RunFolder{run_folder}.Outcome(), StrCat(epoch, " ", exit_code));
}

std::string ReadOutcome(const std::filesystem::path& run_folder) {
  const std::filesystem::path path = RunFolder{run_folder}.Outcome();
  return std::filesystem::exists(path) ? ReadFile(path) : std::string();
}

int ExitCodeOf(const std::string& outcome) {
  std::uint64_t epoch = 0;
  int code = 1;
  std::istringstream(outcome) >> epoch >> code;
  return code;
}

Envelope FailureMessage(const ExitReport& report) {
  message::RoleFailed failed{report.name, {}, report.code, report.signal};
  for (const std::string& line : report.last_lines) failed.last_lines += line + "\n";
  return ToEnvelope(failed);
}

ExitReport FailureFrom(const Envelope& message) {
  const auto failed = FromEnvelope<message::RoleFailed>(message);
  ExitReport report;
  report.name = failed.node;
  std::istringstream lines(failed.last_lines);
  for (std::string line; std::getline(lines, line);) report.last_lines.push_back(line);
  report.code = static_cast<int>(failed.code);
  report.signal = static_cast<int>(failed.by_signal);
  return report;
}

NodeIdentity ControlIdentity(const LaunchPlan& plan, std::string name, std::uint64_t epoch) {
  const Topology& t = plan.topology;
  Credentials credentials = LoadCredentials(RunFolder{t.run.folder}.Keys(), UserOf(plan, name), t.transport.encrypt);
  NodeIdentity identity{std::move(name), ExperimentDigest(plan.experiment), epoch, std::move(credentials)};
  identity.channel = Channel::kControl;
  return identity;
}

std::filesystem::path FindRunFolder(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return std::filesystem::absolute(path);
  return LoadLaunchPlan(path).topology.run.folder;
}

std::unique_ptr<Client> ConnectToRun(const std::filesystem::path& run_folder) {
  if (!RunLock::HolderOf(run_folder)) {
    throw Error("no run is up in this folder", run_folder.string(), "start it with sgmd-launch up <topology.toml>");
  }
  const LaunchPlan plan = LoadRun(run_folder);
  // Clients on several machines may have the same process id.
  const std::string name = StrCat("client.", RunLock::ThisMachine(), ".", ::getpid());
  return std::make_unique<Client>(plan.topology.transport.control,
                                  ControlIdentity(plan, name, ReadRunStart({run_folder}).epoch), Envelope{}, kPatience);
}

std::string RequestStatus(Client& client) {
  client.Send(ToEnvelope(message::StatusRequest{}));
  while (const auto answer = client.Receive(kPatience)) {
    if (answer->kind == wire::Kind::Status) return FromEnvelope<message::Status>(*answer).json;
  }
  throw Error("the broker does not answer a status request");
}

}  // namespace sgmd
