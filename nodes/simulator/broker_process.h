// The broker that is measured: sgmd-broker as a process of its own, so that what it uses can be told apart.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>

namespace sgmd {

/// Owns the process: it ends with this object, and with the thread that started it.
class BrokerProcess {
 public:
  /// Starts `program` (empty: sgmd-broker beside this program) on the run in `run_folder`; its log is logs/broker.log
  /// there. Throws Error when it cannot be started.
  BrokerProcess(std::filesystem::path program, const std::filesystem::path& run_folder, std::uint64_t epoch);
  ~BrokerProcess();
  BrokerProcess(const BrokerProcess&) = delete;

  /// Throws Error with the end of its log when it has ended.
  void RequireAlive() const;
  /// Time on a CPU of all its threads since it started, in seconds. While it lives.
  double CpuSeconds() const;
  /// Memory in use, now and at most so far, in bytes. While it lives.
  std::int64_t ResidentBytes() const;
  std::int64_t PeakBytes() const;
  /// Whether it ends by itself within `patience`.
  bool EndsWithin(std::chrono::milliseconds patience);

 private:
  bool HasEnded() const;
  std::int64_t StatusBytes(const char* field) const;

  std::filesystem::path log_;
  pid_t pid_ = -1;
};

}  // namespace sgmd
