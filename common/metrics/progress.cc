#include "common/metrics/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr int kBarWidth = 24;

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
    : title_(std::move(title)), total_(total), quiet_seconds_(quiet_seconds), terminal_(::isatty(STDERR_FILENO) != 0) {}

ProgressLine::~ProgressLine() { Finish(); }

void ProgressLine::Update(std::int64_t done, std::string_view detail) {
  pace_.Mark(static_cast<double>(done));
  const bool just_complete = done == total_ && done_ != total_;
  done_ = done;
  const std::chrono::duration<double> silent = std::chrono::steady_clock::now() - last_print_;
  if (silent.count() >= (terminal_ ? 0.2 : quiet_seconds_) || just_complete) Print(detail);
}

void ProgressLine::Print(std::string_view detail) {
  last_print_ = std::chrono::steady_clock::now();
  const double fraction = static_cast<double>(done_) / static_cast<double>(std::max<std::int64_t>(total_, 1));
  const int filled = static_cast<int>(fraction * kBarWidth);
  const std::string bar = StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ");
  char rate[32] = "-";
  const double each = pace_.SecondsEach().value_or(0);
  if (each > 0) std::snprintf(rate, sizeof rate, each < 1 ? "%.1f/s" : "%.2f s each", each < 1 ? 1 / each : each);
  const std::string rest = StrCat(title_, " ", done_, "/", total_, "  ETA ", pace_.Left(static_cast<double>(total_)),
                                  "  ", rate, "  ", detail);
  const std::string text = FitLine(bar, rest, terminal_ ? TerminalColumns(STDERR_FILENO) : 0);
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", text.c_str());
  std::fflush(stderr);
}

void ProgressLine::Finish() {
  if (!finished_ && terminal_ && done_ > 0) std::fputc('\n', stderr);
  finished_ = true;
}

}  // namespace sgmd
