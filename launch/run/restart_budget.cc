#include "launch/run/restart_budget.h"

#include <algorithm>
#include <cmath>

namespace sgmd {

std::optional<RestartBudget::Attempt> RestartBudget::OnEnd(const std::string& process, Clock::time_point now) {
  std::deque<Clock::time_point>& ends = ends_[process];
  const std::chrono::duration<double> window(settings_.window_seconds);
  while (!ends.empty() && now - ends.front() > window) ends.pop_front();
  ends.push_back(now);
  const auto count = static_cast<std::int64_t>(ends.size());
  if (count > settings_.attempts) return {};
  const double doubled = settings_.first_delay_seconds * std::exp2(static_cast<double>(count - 1));
  const std::chrono::duration<double> delay(std::min(doubled, settings_.longest_delay_seconds));
  return Attempt{static_cast<int>(count), std::chrono::duration_cast<std::chrono::milliseconds>(delay)};
}

}  // namespace sgmd
