// Finding and talking to a run that is up, from another process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "common/config/topology.h"
#include "common/messages/control.h"
#include "common/transport/client.h"
#include "launch/run/supervisor.h"

namespace sgmd {

/// The exclusive right to run in a folder, or to be one of its further hosts, held until destruction or death by a lock
/// (flock) on <run>/.lock or <run>/.lock.<host>.
class RunLock {
 public:
  struct Holder {
    int pid = 0;
    std::string machine;  // its gethostname()
  };

  /// `further_host`: empty for the only host or the head. Throws Error naming the holder when another process holds it,
  /// or when the file system has no locks.
  explicit RunLock(const std::filesystem::path& run_folder, const std::string& further_host = {});
  ~RunLock();
  RunLock(const RunLock&) = delete;

  /// The process that runs the folder (on the head, where there are several hosts); nothing when none does.
  static std::optional<Holder> HolderOf(const std::filesystem::path& run_folder);
  static std::string ThisMachine();

 private:
  int fd_ = -1;
};

/// Begins the next start of the run, from the newest checkpoint that is whole (CheckpointStore::Newest), and writes it
/// for the processes. `until`: where it ends, as RunStart says. Throws Error as Newest does, and when there are
/// checkpoints and none is whole: beginning again is for a person to choose.
RunStart BeginStart(const LaunchPlan& plan, std::int64_t until = 0);

/// What an orderly end leaves for the other hosts of a run: the epoch and the exit code. The text of <run>/outcome,
/// empty when there is none; it changes with every end.
void WriteOutcome(const std::filesystem::path& run_folder, std::uint64_t epoch, int exit_code);
std::string ReadOutcome(const std::filesystem::path& run_folder);
int ExitCodeOf(const std::string& outcome);

/// How a launcher tells the head's of a process that the run needs, and back (RoleFailed in schemas/wire.fbs).
Envelope FailureMessage(const ExitReport& report);
ExitReport FailureFrom(const Envelope& message);

/// The identity by which a launcher or its client `name` talks to the broker, with what lets it in.
NodeIdentity ControlIdentity(const LaunchPlan& plan, std::string name, std::uint64_t epoch);

/// The run folder behind a topology file or a run folder.
std::filesystem::path FindRunFolder(const std::filesystem::path& topology_or_folder);

/// A connection to the broker of the live run in `run_folder`. Throws Error when no run is up there.
std::unique_ptr<Client> ConnectToRun(const std::filesystem::path& run_folder);

/// One StatusRequest; the broker's JSON. Throws Error when the broker does not answer.
std::string RequestStatus(Client& client);

}  // namespace sgmd
