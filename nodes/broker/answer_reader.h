// The threads that look up what the answer cache keeps.
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

/// One thread asks the table's filters in memory which keys may be there; another one reads and verifies the values of
/// those, in their order. So what is not there waits for no value, and no call waits for the disk, nor for a lock that
/// the table's writer holds. What is not read at the end of its life is not read.
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

  /// `table`: what to read from, called by both threads for every key; none is as good as an empty one.
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
  using Lock = std::unique_lock<std::mutex>;
  void Filter();
  void Read();
  std::optional<Asked> Next(Lock& lock, std::deque<Asked>& queue, std::condition_variable& changed) const;
  void Finish(Done done);
  Done ReadOne(const Asked& asked) const;

  Source table_;
  int event_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable asked_changed_, to_read_changed_;
  std::deque<Asked> asked_, to_read_;  // of which nothing is known; that may be there
  std::deque<Done> done_;
  std::optional<Clock::time_point> began_;
  bool stopping_ = false;
  std::thread filtering_, reading_;
};

}  // namespace sgmd
