// What this process does in some steps of a run, and when: its part of the picture that `up --trace` makes.
//
//   SGMD_TRACE="steps=3@10"    records three steps from step 10 on
//   SGMD_TRACE="steps=3"       the third step since the process started and the two after it: the first are slower
//
// Written to <run>/trace/<process>.json in Chrome's trace format (JSON; times in microseconds since 1970, so that the
// files of all processes fit together; on several hosts as well as their clocks agree).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace sgmd::trace {

/// Steps first to first + count - 1.
struct Steps {
  std::int64_t count = 1;
  std::int64_t first = -1;  // -1: the third since the start
};

/// Of "steps=3@10" or "steps=3". Throws Error on anything else, and on a count that is not 1 to 1000.
Steps ParseSteps(std::string_view text);

/// Whom and when a Span is about.
struct About {
  std::int64_t step = -1, index = -1;  // of the sample; -1: none
  const char* kind = "";               // of the message; a string that lives for ever
};

namespace internal {
class Recorder;
inline std::atomic<Recorder*> active{nullptr};
}  // namespace internal

/// Records the spans of this process while it lives, where SGMD_TRACE is set. One a process.
class Recording {
 public:
  /// `start`: the step that the run goes on from. `ahead`: how many steps the processes of the run may be apart, whose
  /// spans are recorded too. Throws Error where SGMD_TRACE cannot be read.
  Recording(std::filesystem::path folder, std::string process, std::int64_t start, std::int64_t ahead);
  /// Writes what was recorded, where it is not written yet: the last steps of a run.
  ~Recording();

 private:
  std::unique_ptr<internal::Recorder> recorder_;
};

/// What the thread does while one lives; they nest. A span with a step tells how far the process is: the first one
/// that lies past the steps to record ends the recording, and the file is written then. Thread-safe. Where nothing is
/// recorded, one relaxed load and a branch at both ends.
class Span {
 public:
  using Clock = std::chrono::steady_clock;

  /// `name`: a string that lives for ever.
  explicit Span(const char* name, About about = {}) {
    if (internal::active.load(std::memory_order_relaxed) != nullptr) [[unlikely]]
      Begin(name, about);
  }
  ~Span() {
    if (name_ != nullptr) [[unlikely]]
      End();
  }
  Span(const Span&) = delete;

 private:
  void Begin(const char* name, About about);
  void End();

  const char* name_ = nullptr;  // of one that is recorded
  About about_;
  Clock::time_point start_{};
};

}  // namespace sgmd::trace
