// What a log holds.
#pragma once

#include <string>
#include <string_view>

namespace sgmd {

/// A line that begins with its time, as common/log writes it, and the lines behind it that have none. What a process
/// wrote before its first time is an entry with an empty time.
struct LogEntry {
  std::string process;
  std::string time;  // "2026-11-24 21:03:11.042", local; sorts as text
  std::string text;  // without the last newline
};

/// The time that a line begins with; empty when it does not.
std::string_view TimeOf(std::string_view line);

}  // namespace sgmd
