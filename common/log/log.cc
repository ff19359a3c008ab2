#include "common/log/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <string>

#include "common/failpoint/failpoint.h"

namespace sgmd {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

LogLevel Threshold(LogLevel fallback) {
  const char* text = std::getenv("SGMD_LOG");
  const std::string_view wanted = text == nullptr ? "" : text;
  if (wanted == "debug") return LogLevel::kDebug;
  if (wanted == "info") return LogLevel::kInfo;
  if (wanted == "warning") return LogLevel::kWarning;
  if (wanted == "error") return LogLevel::kError;
  return fallback;
}

}  // namespace

void InitLog(std::string_view process_name, LogLevel threshold) {
  auto logger =
      std::make_shared<spdlog::logger>(std::string(process_name), std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %L %v");
  logger->set_level(ToSpdlog(Threshold(threshold)));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  failpoint::SetProcess(process_name);
}

void WriteLog(LogLevel level, std::string_view text) {
  spdlog::default_logger_raw()->log(ToSpdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace sgmd
