// A client that keeps asking for the status: the broker answers from its one loop, so what an answer takes is for how
// long that loop looked at nothing new.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <vector>

#include "common/transport/client.h"
#include "nodes/simulator/simulated_run.h"

namespace sgmd {

/// What a probe saw.
struct StatusRecord {
  std::vector<double> answer_ms;  // what each answer took, in order
  std::int64_t most_queued = 0, most_leased = 0;
};

class StatusProbe {
 public:
  explicit StatusProbe(const SimulatedRun& run);

  /// Asks until `stop` is requested, `period_ms` (> 0) after it asked last or at once where the answer took longer.
  void Run(const std::stop_token& stop, double period_ms);
  /// The status, recorded with the others. Throws Error when no answer comes, at once where `stop` is requested.
  nlohmann::json Ask(const std::stop_token& stop = {});

  const StatusRecord& record() const { return record_; }

 private:
  Client client_;
  StatusRecord record_;
};

}  // namespace sgmd
