// What a simulation found, as figures, as a table and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nodes/simulator/options.h"
#include "nodes/simulator/samples.h"
#include "nodes/simulator/status_probe.h"

namespace sgmd {

struct SimulationReport {
  SimulationOptions options;
  Ledger gradients, scored;  // what the generator and the fake score got
  double seconds = 0;        // from the first sample to the last gradient
  std::vector<double> step_seconds;
  double broker_cpu_seconds = 0, peers_cpu_seconds = 0;        // in that time
  std::int64_t broker_start_bytes = 0, broker_peak_bytes = 0;  // resident, before the first sample and at most
  StatusRecord status;
  std::int64_t redispatched = 0, dropped = 0;  // leases, and late answers, at the end of the last step
  std::vector<double> elsewhere_seconds;       // from when a teacher hung until another one had its lease
  std::int64_t cache_entries = 0, cache_bytes = 0, cache_lost = 0;  // likewise

  /// Every sample was answered once, and rightly.
  bool Whole() const;
  double SamplesPerSecond() const { return static_cast<double>(gradients.came()) / seconds; }
  /// What the teachers could do if nobody ever waited; those that die count as alive. Infinite where they take no time.
  double LinearSamplesPerSecond() const;
  /// Of `seconds` on a CPU.
  double MsPerSample(double seconds) const { return 1e3 * seconds / static_cast<double>(gradients.expected()); }
};

/// The value that a share `q` in [0, 1] of `values` is not above; 0 of none.
double Quantile(std::vector<double> values, double q);

std::string ToTable(const SimulationReport& report);
/// An object on one line; a key says its unit.
std::string ToJson(const SimulationReport& report);

}  // namespace sgmd
