#include "common/trace/trace.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <utility>
#include <vector>

#include "common/error/error.h"
#include "common/log/log.h"

namespace sgmd::trace {
namespace {

constexpr std::int64_t kWarmUp = 2, kLongest = 1000;
constexpr std::size_t kMostSpans = std::size_t{1} << 20;  // some 64 MiB

struct Recorded {
  const char* name;
  About about;
  int thread;
  double start, length;  // microseconds
};

double Microseconds(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1000; }

// What is added to the steady clock to have the time since 1970.
std::chrono::nanoseconds OffsetToSystemClock() {
  return std::chrono::system_clock::now().time_since_epoch() - std::chrono::steady_clock::now().time_since_epoch();
}

void Write(std::ostream& out, const Recorded& span) {
  out << R"({"ph":"X","name":")" << span.name << R"(","pid":)" << ::getpid() << R"(,"tid":)" << span.thread
      << R"(,"ts":)" << span.start << R"(,"dur":)" << span.length << R"(,"args":{)";
  const char* comma = "";
  if (span.about.step >= 0) out << R"("step":)" << span.about.step, comma = ",";
  if (span.about.index >= 0) out << comma << R"("index":)" << span.about.index, comma = ",";
  if (*span.about.kind != '\0') out << comma << R"("kind":")" << span.about.kind << '"';
  out << "}}";
}

}  // namespace

Steps ParseSteps(std::string_view text) {
  const auto fail = [&] {
    return Error(StrCat("\"", text, "\" does not say which steps to record"), "--trace", "steps=3 or steps=3@10");
  };
  constexpr std::string_view kPrefix = "steps=";
  if (!text.starts_with(kPrefix)) throw fail();
  Steps steps;
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data() + kPrefix.size(), end, steps.count);
  if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '@') {
    parsed = std::from_chars(parsed.ptr + 1, end, steps.first);
    if (steps.first < 0) throw fail();
  }
  if (parsed.ec != std::errc() || parsed.ptr != end || steps.count < 1 || steps.count > kLongest) throw fail();
  return steps;
}

namespace internal {

class Recorder {
 public:
  Recorder(std::filesystem::path file, std::string process, Steps steps, std::int64_t ahead)
      : file_(std::move(file)),
        process_(std::move(process)),
        first_(steps.first),
        last_(steps.first + steps.count - 1),
        ahead_(ahead) {}

  /// Whether a span is recorded that begins now.
  bool Begins(std::int64_t step) {
    const std::lock_guard lock(mutex_);
    if (step > last_ + ahead_) Finish();
    recording_ = recording_ || (!finished_ && step >= first_ - ahead_);
    return recording_;
  }

  void Add(const char* name, const About& about, Span::Clock::time_point start, Span::Clock::time_point end) {
    const std::lock_guard lock(mutex_);
    if (!recording_ || spans_.size() == kMostSpans) return;
    spans_.push_back(
        {name, about, ::gettid(), Microseconds(start.time_since_epoch() + offset_), Microseconds(end - start)});
  }

  void End() {
    const std::lock_guard lock(mutex_);
    Finish();
  }

 private:
  // Nobody trains for the sake of a picture.
  void Finish() try {
    recording_ = false;
    if (std::exchange(finished_, true) || spans_.empty()) return;
    std::filesystem::create_directories(file_.parent_path());
    const std::filesystem::path part = file_.string() + ".part";
    std::ofstream out(part);
    out << std::fixed;
    out.precision(1);
    out << R"({"traceEvents":[)"
        << "\n"
        << R"({"ph":"M","name":"process_name","pid":)" << ::getpid() << R"(,"args":{"name":")" << process_ << R"("}})";
    for (const Recorded& span : spans_) Write(out << ",\n", span);
    out << "\n],\"firstStep\":" << first_ << ",\"lastStep\":" << last_ << "}\n";
    out.close();
    if (!out) ThrowErrno("cannot write the trace", part.string());
    std::filesystem::rename(part, file_);
    spans_ = {};
  } catch (const std::exception& error) {
    spans_ = {};
    LogWarning(error.what());
  }

  const std::filesystem::path file_;
  const std::string process_;
  const std::int64_t first_, last_, ahead_;
  const std::chrono::nanoseconds offset_ = OffsetToSystemClock();
  std::mutex mutex_;
  bool recording_ = false, finished_ = false;
  std::vector<Recorded> spans_;
};

}  // namespace internal

Recording::Recording(std::filesystem::path folder, std::string process, std::int64_t start, std::int64_t ahead) {
  const char* const text = std::getenv("SGMD_TRACE");
  if (text == nullptr || *text == '\0') return;
  Steps steps = ParseSteps(text);
  if (steps.first < 0) steps.first = start + kWarmUp;
  const std::filesystem::path file = folder / (process + ".json");
  recorder_ = std::make_unique<internal::Recorder>(file, std::move(process), steps, ahead);
  internal::active = recorder_.get();
}

Recording::~Recording() {
  if (!recorder_) return;
  recorder_->End();
  internal::active = nullptr;
}

void Span::Begin(const char* name, About about) {
  internal::Recorder* const recorder = internal::active.load(std::memory_order_acquire);
  if (recorder == nullptr || !recorder->Begins(about.step)) return;
  name_ = name;
  about_ = about;
  start_ = Clock::now();
}

void Span::End() {
  if (internal::Recorder* const recorder = internal::active.load(std::memory_order_acquire))
    recorder->Add(name_, about_, start_, Clock::now());
}

}  // namespace sgmd::trace
