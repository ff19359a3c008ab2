// The picture of some steps over all processes of this host: what `up --trace` asks them for, put together.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sgmd {

/// One thread's time in a window, by what it did.
struct NamedTime {
  std::string process;
  double named = 0;                                // share of the window that any span covers, 0 to 1
  std::vector<std::pair<std::string, double>> by;  // share of each name without what is nested in it, largest first
};

/// All processes that wrote into a folder, as one trace.
struct StepTrace {
  std::int64_t first = 0, last = 0;  // steps
  double seconds = 0;                // of them together, as the generator had them; 0: it recorded none of them
  std::vector<NamedTime> main_threads;
  std::string json;  // Chrome's trace format
};

/// Reads <folder>/*.json (common/trace/trace.h). Nothing where there is none. Throws Error when one cannot be read.
std::optional<StepTrace> ReadStepTrace(const std::filesystem::path& folder);

/// A line a process: what its main thread did in the steps.
std::vector<std::string> StepTraceLines(const StepTrace& trace);

/// Waits for the files of the processes.
class StepTraceCollector {
 public:
  /// Removes the files of an earlier start. `processes`: those that write one.
  StepTraceCollector(std::filesystem::path folder, std::filesystem::path merged, std::vector<std::string> processes);
  /// Once all have written theirs (or `at_end`, as many as have): writes the merged file, and returns what to say of
  /// it, once. Throws Error where a file cannot be read or written; that, too, once.
  std::vector<std::string> Poll(bool at_end = false);

 private:
  std::filesystem::path folder_, merged_;
  std::vector<std::string> processes_;
  bool done_ = false;
};

}  // namespace sgmd
