#include "common/metrics/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr int kBarWidth = 24;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string FormatDuration(double seconds) {
  char text[32];
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (seconds < 9.95) {
    std::snprintf(text, sizeof text, "%.1fs", seconds);
  } else if (whole < 60) {
    std::snprintf(text, sizeof text, "%llds", whole);
  } else if (whole < 3600) {
    std::snprintf(text, sizeof text, "%lldm %02llds", whole / 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lldh %02lldm", whole / 3600, whole / 60 % 60);
  }
  return text;
}

ProgressLine::ProgressLine(std::string title, std::int64_t total, double quiet_seconds)
    : title_(std::move(title)),
      total_(total),
      quiet_seconds_(quiet_seconds),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()) {}

ProgressLine::~ProgressLine() { Finish(); }

void ProgressLine::Update(std::int64_t done, std::string_view detail) {
  if (first_done_ < 0) {  // a resumed job starts in the middle: its rate counts from here
    first_done_ = done - 1;
  }
  done_ = done;
  const bool due = SecondsSince(last_print_) >= (terminal_ ? 0.2 : quiet_seconds_);
  if (due || done_ == total_) Print(detail);
}

void ProgressLine::Print(std::string_view detail) {
  last_print_ = std::chrono::steady_clock::now();
  const double elapsed = SecondsSince(start_);
  const double rate = static_cast<double>(done_ - first_done_) / std::max(elapsed, 1e-9);
  const double fraction = static_cast<double>(done_) / static_cast<double>(std::max<std::int64_t>(total_, 1));
  const int filled = static_cast<int>(fraction * kBarWidth);
  const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
  char rate_text[32];
  std::snprintf(rate_text, sizeof rate_text, rate >= 1 ? "%.1f/s" : "%.2f s each", rate >= 1 ? rate : 1 / rate);
  const std::string text = StrCat(title_, " [", bar, "] ", done_, "/", total_, "  ", rate_text, "  ETA ",
                                  FormatDuration(static_cast<double>(total_ - done_) / rate), "  ", detail);
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", text.c_str());
  std::fflush(stderr);
}

void ProgressLine::Finish() {
  if (!finished_ && terminal_ && done_ > 0) std::fputc('\n', stderr);
  finished_ = true;
}

}  // namespace sgmd
