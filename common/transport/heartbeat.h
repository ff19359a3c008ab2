// Signs of life: a thread that tells the broker how far this process has come.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "common/transport/client.h"

namespace sgmd {

/// Tells the broker at once, and then every `beat_seconds`, how much work this process has done and whether it is at
/// work (common/metrics/work_count.h); owns its control socket and thread. A process that hangs stops counting, which
/// is how it differs from a slow one and from one that waits.
class Heartbeat {
 public:
  Heartbeat(const std::string& control_endpoint, NodeIdentity identity, double beat_seconds);
  ~Heartbeat();

  /// Latest values of named metrics, sent with every following beat. Thread-safe.
  void Report(const std::map<std::string, double>& scalars);
  /// True once Drain arrived on the control socket. Thread-safe.
  bool drain_requested() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
