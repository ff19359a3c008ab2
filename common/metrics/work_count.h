// How much this process has done: what tells one that is slow from one that hangs.
#pragma once

#include <cstdint>

namespace sgmd {

/// One more unit of work is done: a block of a network, a file's part, a message that was dealt with. A unit takes
/// seconds at most on any device, so that a process at work whose count stands still for long is stuck. Thread-safe; its
/// cost is that of one atomic addition.
void CountWork();

/// Units since the process started. Thread-safe.
std::int64_t WorkDone();

}  // namespace sgmd
