// The thread that reads what the answer cache keeps.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "common/transport/envelope.h"
#include "nodes/broker/answer_table.h"

namespace sgmd {

/// Reads and verifies values in the order in which they are asked for. No call waits for the disk. What is not read at
/// the end of its life is not read.
class AnswerReader {
 public:
  using Clock = std::chrono::steady_clock;
  using Source = std::function<std::shared_ptr<AnswerTable>()>;
  struct Done {
    std::uint64_t request = 0;
    Digest key;
    AnswerTable::Found found = AnswerTable::Found::kNo;  // kDamaged: also a value that is not whole
    std::optional<TensorFrame> answer;                   // where it is kYes
    double seconds = 0;                                  // that it took
  };

  /// `table`: what to read from, called by the thread for every value; none is as good as an empty one.
  explicit AnswerReader(Source table);
  ~AnswerReader();
  AnswerReader(const AnswerReader&) = delete;

  void Ask(std::uint64_t request, const Digest& key);
  /// Nothing where nothing has been read since.
  std::optional<Done> Take();
  /// A file descriptor that can be read from, as poll sees it, while Take has something.
  int event() const { return event_; }
  /// For how long the value has been read that is being read now; 0 while none is.
  Clock::duration Busy() const;

 private:
  struct Asked {
    std::uint64_t request = 0;
    Digest key;
  };
  void Run();
  Done Read(const Asked& asked) const;

  Source table_;
  int event_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  std::deque<Asked> asked_;
  std::deque<Done> done_;
  std::optional<Clock::time_point> began_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sgmd
