// The generator of a simulation: sends the micro-batches of each step that is admitted, and waits for their gradients.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <vector>

#include "nodes/generator/admission.h"
#include "nodes/simulator/peers.h"

namespace sgmd {

class GeneratorPeer {
 public:
  /// Blocks until the broker has welcomed it.
  GeneratorPeer(const SimulatedRun& run, const SimulationOptions& options);

  /// Every step; `look` is called several times a second and may throw, which ends it. It ends early when no gradient
  /// comes for as long as the options say: what is missing is open in the ledger.
  void Run(const std::function<void()>& look);
  /// Tells the broker that the run is over, and waits until it has closed it.
  void Finish();

  /// A gradient is right when it is the x_g of its ticket.
  const Ledger& ledger() const { return ledger_; }
  /// Seconds from one step's last gradient to that of the next; the first from the start of Run.
  const std::vector<double>& step_seconds() const { return step_seconds_; }
  std::int64_t landed() const { return static_cast<std::int64_t>(step_seconds_.size()); }

 private:
  using Clock = std::chrono::steady_clock;

  void RollOut(std::int64_t step, const std::function<void()>& look);
  bool Land(std::int64_t step, const std::function<void()>& look);
  void Take(const Envelope& message);

  const SimulationOptions& options_;
  Admission admission_;
  SampleSource source_;
  Peer peer_;
  Ledger ledger_;
  std::vector<double> step_seconds_;
  Clock::time_point last_gradient_{};
};

}  // namespace sgmd
