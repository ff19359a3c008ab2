// Waiting for what another process does.
#pragma once

#include <chrono>
#include <thread>

namespace sgmd {

/// Whether `condition` comes true within `seconds`.
template <typename Condition>
bool WaitUntil(double seconds, Condition condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace sgmd
