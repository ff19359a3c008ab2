#include "common/metrics/pace.h"

#include <sys/ioctl.h>

#include "common/metrics/progress.h"

namespace sgmd {

void Pace::Mark(double done, Clock::time_point now) {
  if (first_ < 0 || done < last_) {
    first_ = done;
    first_time_ = now;
  }
  last_ = done;
  last_time_ = now;
}

std::optional<double> Pace::SecondsEach() const {
  if (last_ <= first_) return {};
  return std::chrono::duration<double>(last_time_ - first_time_).count() / (last_ - first_);
}

std::string Pace::Left(double total) const {
  const auto each = SecondsEach();
  return each ? FormatDuration(*each * (total - last_)) : "-";
}

int TerminalColumns(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

std::string FitLine(const std::string& bar, const std::string& rest, int columns) {
  const std::string line = bar + rest;
  const auto width = static_cast<std::size_t>(columns > 1 ? columns - 1 : 0);  // in the last column some wrap already
  if (width == 0 || line.size() <= width) return line;
  return rest.substr(0, width);
}

}  // namespace sgmd
