#include "launch/run/console.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "common/config/role.h"
#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr int kBarWidth = 20;
constexpr std::chrono::seconds kQuietPeriod{10};
using nlohmann::json;

int ColourOf(const std::string& name) {
  if (IsOf(Role::kBroker, name)) return 33;
  if (IsOf(Role::kGenerator, name)) return 36;
  if (IsOf(Role::kFakeScore, name)) return 35;
  return 32;  // teachers
}

std::string Fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string HitRate(const json& status) {
  const double hits = status["cache"].value("hits", 0.0), misses = status["cache"].value("misses", 0.0);
  return hits + misses == 0 ? "-" : Fixed(100 * hits / (hits + misses), 0) + "%";
}

long TeachersAlive(const json& status) {
  return std::count_if(status["nodes"].begin(), status["nodes"].end(), [](const json& node) {
    return SpeaksForTeacher(node["name"].get<std::string>()) && node["alive"].get<bool>();
  });
}

}  // namespace

Console::Console(bool quiet, const std::filesystem::path& log)
    : quiet_(quiet),
      terminal_(::isatty(STDOUT_FILENO) != 0),
      colour_(terminal_ && std::getenv("NO_COLOR") == nullptr),
      log_(log.empty() ? nullptr : std::make_unique<LogFile>(log)) {
  if (!log.empty()) std::filesystem::create_directories(log.parent_path());
}

Console::~Console() {
  if (terminal_ && !progress_.empty()) std::puts("");
}

std::string ProcessPrefix(const std::string& name, bool colour) {
  std::string padded = name;
  padded.resize(std::max<std::size_t>(padded.size(), 11), ' ');
  return colour ? StrCat("\x1b[", ColourOf(name), "m", padded, "\x1b[0m | ") : padded + " | ";
}

void Console::Print(const std::string& line) {
  if (terminal_) std::fputs("\r\x1b[K", stdout);
  std::puts(line.c_str());
  if (terminal_) std::fputs(progress_.c_str(), stdout);
  std::fflush(stdout);
}

void Console::ProcessLine(const std::string& name, const std::string& line) {
  if (!quiet_) Print(ProcessPrefix(name, colour_) + line);
}

void Console::Say(std::string_view line) {
  Print(ProcessPrefix("launch", colour_) + std::string(line));
  if (log_) AppendToLog(line);
}

// In the form of common/log.
void Console::AppendToLog(std::string_view line) {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char time[32], text[48];
  std::strftime(time, sizeof time, "%F %T", &local);
  std::snprintf(text, sizeof text, "%s.%03d I ", time, static_cast<int>(milliseconds));
  log_->Write(StrCat(text, line, "\n"));
}

void Console::SayWaiting(const std::string& waiting_for) {
  const auto now = std::chrono::steady_clock::now();
  if (waiting_for == waiting_for_ || (!waiting_for.empty() && now - last_waiting_ < kQuietPeriod)) return;
  waiting_for_ = waiting_for;
  if (waiting_for.empty()) return;
  last_waiting_ = now;
  Say("the run waits for " + waiting_for);
}

void Console::Progress(const std::string& status_json) {
  const json status = json::parse(status_json);
  SayWaiting(status.value("waiting_for", ""));
  const double step = status.value("step", 0.0), steps = status.value("steps", 1.0);
  pace_.Mark(step);
  const json& scalars = status["scalars"];
  const int filled = static_cast<int>(kBarWidth * step / steps);
  const std::string bar = StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ");
  const std::string rest =
      StrCat("step ", static_cast<long long>(step), "/", static_cast<long long>(steps), "  ETA ", pace_.Left(steps),
             "  ", Fixed(scalars.value("step_time_sec", 0.0), 2), " s/step  loss ",
             Fixed(scalars.value("generator_loss", 0.0), 4), "  fake ", Fixed(scalars.value("fake_score_loss", 0.0), 4),
             "  cache hits ", HitRate(status), "  teachers ", TeachersAlive(status));
  const auto now = std::chrono::steady_clock::now();
  if (terminal_) {
    progress_ = FitLine(bar, rest, TerminalColumns(STDOUT_FILENO));
    std::fputs(("\r\x1b[K" + progress_).c_str(), stdout);
    std::fflush(stdout);
  } else if (now - last_progress_ >= kQuietPeriod) {
    last_progress_ = now;
    Print(bar + rest);
  }
}

}  // namespace sgmd
