// How long something took, of late.
#pragma once

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <vector>

namespace sgmd {

/// The last kWindow durations, in seconds.
class RecentDurations {
 public:
  static constexpr std::size_t kWindow = 64, kLeast = 8;

  void Add(double seconds) {
    window_.push_back(seconds);
    if (window_.size() > kWindow) window_.pop_front();
  }

  /// The 95th percentile (nearest rank); nothing before kLeast are there.
  std::optional<double> Percentile95() const {
    if (window_.size() < kLeast) return {};
    std::vector<double> sorted(window_.begin(), window_.end());
    const auto rank = static_cast<std::size_t>(std::ceil(0.95 * static_cast<double>(sorted.size())));
    std::ranges::nth_element(sorted, sorted.begin() + static_cast<std::ptrdiff_t>(rank - 1));
    return sorted[rank - 1];
  }

 private:
  std::deque<double> window_;
};

}  // namespace sgmd
