// Logging facade. spdlog stays in log.cc: the LibTorch wheel ships its own fmt, and the two must not meet.
#pragma once

#include <string_view>

#include "common/error/error.h"

namespace sgmd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Starts logging and sets the threshold (SGMD_LOG=debug|info|warning|error overrides it). Lines go to stderr:
/// "2026-11-24 21:03:11.042 I text", local time; the launcher puts the process name before them.
/// Also tells the failpoints (common/failpoint) who this process is. Throws Error when SGMD_FAILPOINTS is wrong.
void InitLog(std::string_view process_name, LogLevel threshold = LogLevel::kInfo);

void WriteLog(LogLevel level, std::string_view text);

template <typename... Parts>
void LogDebug(const Parts&... parts) {
  WriteLog(LogLevel::kDebug, StrCat(parts...));
}
template <typename... Parts>
void LogInfo(const Parts&... parts) {
  WriteLog(LogLevel::kInfo, StrCat(parts...));
}
template <typename... Parts>
void LogWarning(const Parts&... parts) {
  WriteLog(LogLevel::kWarning, StrCat(parts...));
}
template <typename... Parts>
void LogError(const Parts&... parts) {
  WriteLog(LogLevel::kError, StrCat(parts...));
}

}  // namespace sgmd
