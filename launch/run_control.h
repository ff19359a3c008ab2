// Finding and talking to a run that is up, from another process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "common/config/topology.h"
#include "common/transport/client.h"

namespace sgmd {

/// The exclusive right to run in a folder, held by a lock on <run>/.lock until destruction or death.
class RunLock {
 public:
  /// Throws Error with the holder's pid when another process holds it.
  explicit RunLock(const std::filesystem::path& run_folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;

  /// The pid of the process that holds the folder, or 0.
  static int HolderOf(const std::filesystem::path& run_folder);

 private:
  int fd_ = -1;
};

/// Epoch: counts the starts of a run; kept in <run>/epoch. Next increments it, Current reads it.
std::uint64_t NextEpoch(const std::filesystem::path& run_folder);
std::uint64_t CurrentEpoch(const std::filesystem::path& run_folder);

/// The run folder behind a topology file or a run folder.
std::filesystem::path FindRunFolder(const std::filesystem::path& topology_or_folder);

/// A connection to the broker of the live run in `run_folder`. Throws Error when no run is up there.
std::unique_ptr<Client> ConnectToRun(const std::filesystem::path& run_folder);

/// One StatusRequest; the broker's JSON. Throws Error when the broker does not answer.
std::string RequestStatus(Client& client);

}  // namespace sgmd
