// Warnings of what a stranger or a broken peer can cause any number of.
#pragma once

#include <chrono>
#include <cstdint>

#include "common/log/log.h"

namespace sgmd {

/// Logs at most ten warnings in ten seconds; the next one after that says how many were left out. Not thread-safe.
class LimitedLog {
 public:
  template <typename... Parts>
  void Warn(const Parts&... parts) {
    if (!Admit(std::chrono::steady_clock::now())) return;
    if (held_back_ > 0) LogWarning("(", held_back_, " more such lines were left out)");
    held_back_ = 0;
    LogWarning(parts...);
  }

 private:
  static constexpr int kLines = 10;
  static constexpr std::chrono::seconds kPeriod{10};

  bool Admit(std::chrono::steady_clock::time_point now) {
    if (now - period_start_ >= kPeriod) {
      period_start_ = now;
      lines_ = 0;
    }
    if (++lines_ <= kLines) return true;
    ++held_back_;
    return false;
  }

  std::chrono::steady_clock::time_point period_start_{};
  int lines_ = 0;
  std::int64_t held_back_ = 0;
};

}  // namespace sgmd
