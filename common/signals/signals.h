// What a process of a run does when it is signalled:
//
//   SIGTERM   it is asked to end in order: StopRequests::in_order
//   SIGINT    it ends at once, or is asked to: StopRequests::now
//   SIGUSR1   it writes the stacks of its threads to stderr, and goes on
#pragma once

#include <atomic>

namespace sgmd {

/// Set by signals, looked at by the loop that they are for.
struct StopRequests {
  std::atomic<bool> in_order{false}, now{false};
};

/// What SIGINT does to a process: one that has something to save before it ends looks at StopRequests::now.
enum class Interrupt { kEnds, kAsks };

/// From now on this process heeds the signals above; those that its launcher has held back so far arrive. Call it first
/// in main, before there are threads. What it returns is of this process, for ever.
const StopRequests& ListenToSignals(Interrupt interrupt = Interrupt::kEnds);

}  // namespace sgmd
