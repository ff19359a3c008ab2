// What this process is doing, as its signs of life tell it: what tells a slow process from one that hangs.
#pragma once

#include <cstdint>

namespace sgmd {

/// One more unit of work is done: a block of a network, a part of a file, a message that was dealt with. A unit takes
/// seconds at most on any device, so that a process at work whose count stands still for long is stuck. Thread-safe;
/// its cost is that of one atomic addition.
void CountWork();

/// Units since the process started. Thread-safe.
std::int64_t WorkDone();

/// While one lives, this process waits for others and is not at work. Thread-safe.
class Waiting {
 public:
  Waiting();
  ~Waiting();
  Waiting(const Waiting&) = delete;
};

/// Whether a Waiting lives.
bool IsWaiting();

}  // namespace sgmd
