// The failpoints of sgmd, each declared once, with what may be made to happen there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sgmd::failpoint {

/// What happens. Those of the first line Hit() does itself; the others are for the place to do.
enum class Action {
  kCrash,
  kExit,
  kHang,
  kStop,
  kSleep,
  kError,
  kNoSpace,
  kIoError,
  kTooManyFiles,
  kDrop,
  kDouble,
  kDelay,
  kCorrupt,
  kReorder,
  kNan,
};

/// Which actions make sense at a place: a sum of these.
inline constexpr unsigned kProcess = 1;  // crash, exit(N), hang, stop, sleep(ms), error
inline constexpr unsigned kErrno = 2;    // enospc, eio, emfile
inline constexpr unsigned kMessage = 4;  // drop, double, delay(ms), corrupt, reorder
inline constexpr unsigned kValue = 8;    // nan

struct Declared {
  std::string_view name, what;
  unsigned actions;
};

inline constexpr std::array kPlaces{
    Declared{"data.send", "a message goes out on the data socket", kProcess | kMessage},
    Declared{"data.receive", "a message has come in on the data socket", kProcess | kMessage},
    Declared{"control.send", "a message goes out on the control socket", kProcess | kMessage},
    Declared{"control.receive", "a message has come in on the control socket", kProcess | kMessage},
    Declared{"broker.tick", "the broker looks at its leases and its nodes", kProcess},
    Declared{"cache.put", "an answer of a teacher is written into the cache", kProcess | kErrno},
    Declared{"cache.get", "an answer is looked up in the cache", kProcess | kErrno},
    Declared{"cache.flush", "the cache makes what it holds survive a crash", kProcess | kErrno},
    Declared{"checkpoint.write", "a file of a checkpoint is staged", kProcess | kErrno},
    Declared{"checkpoint.before_manifest", "all files of a checkpoint are staged, its manifest is not",
             kProcess | kErrno},
    Declared{"checkpoint.before_rename", "a checkpoint is staged whole, not yet renamed", kProcess | kErrno},
    Declared{"checkpoint.after_rename", "a checkpoint is committed, older ones are not yet removed", kProcess},
    Declared{"student.before_rename", "the student is staged whole, not yet renamed", kProcess | kErrno},
    Declared{"events.write", "a value for TensorBoard is written", kProcess | kErrno},
    Declared{"log.write", "the launcher writes a process's output into its log", kProcess | kErrno},
    Declared{"epoch.write", "the launcher writes down that a start begins", kProcess | kErrno},
    Declared{"generator.step", "the generator begins a step", kProcess},
    Declared{"fake_score.step", "the fake score begins an inner loop", kProcess},
    Declared{"teacher.score", "a teacher has computed an answer", kProcess | kValue},
    Declared{"launcher.poll", "the launcher looks at its processes", kProcess},
};

/// One of kPlaces. A name that is not there does not compile.
class Place {
 public:
  consteval Place(const char* name) {  // NOLINT(google-explicit-constructor)
    while (kPlaces[index_].name != name) ++index_;
  }
  constexpr std::size_t index() const { return index_; }

 private:
  std::size_t index_ = 0;
};

}  // namespace sgmd::failpoint
