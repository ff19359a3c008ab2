// The thread that writes what the answer cache keeps, and what it does while it cannot.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "nodes/broker/answer_table.h"

namespace sgmd {

/// Writes jobs in their order, and flushes every few of them. What was written and not flushed is still held, so that
/// a failure loses nothing:
///
///   state     event                                   to
///   writing   a job or a flush fails (full disk,      failing; all that was not flushed waits again
///             too many open files, a broken disk)
///   failing   `retry` has passed: it resumes or       writing, once all that waits is flushed
///             opens the table anew, and writes
///   failing   more waits than kMaxWaitingBytes        failing; what comes now is dropped and counted as lost
///   any       destruction                             -, after one more attempt; what it cannot write is lost
class AnswerWriter {
 public:
  using Clock = std::chrono::steady_clock;
  using Job = std::function<void(AnswerTable& table)>;  // may be done twice
  using Opener = std::function<std::shared_ptr<AnswerTable>()>;
  struct State {
    std::string problem;  // why it is failing; empty when it is not
    std::int64_t waiting_bytes = 0, lost = 0;
  };
  static constexpr std::size_t kMaxWaitingBytes = std::size_t{256} << 20;

  /// `open`: makes the table, now (throws what it throws, but for DiskTrouble) and after failures.
  AnswerWriter(Opener open, std::chrono::milliseconds retry, std::size_t max_waiting_bytes = kMaxWaitingBytes);
  ~AnswerWriter();

  /// `bytes`: what the job holds. Blocks a few seconds at most, while many wait and it is not failing.
  void Add(Job job, std::size_t bytes);
  /// Until all jobs so far are flushed, or it is failing.
  void Sync();
  /// To read from; nothing while there is none.
  std::shared_ptr<AnswerTable> table() const;
  State state() const;

 private:
  struct Waiting {
    Job job;
    std::size_t bytes = 0;
  };
  using Lock = std::unique_lock<std::mutex>;
  bool HasWork() const;
  void Run();
  bool WriteOne(Lock& lock);
  bool Flush(Lock& lock);
  bool Recover(Lock& lock);
  bool Attempt(Lock& lock, const std::function<void()>& action);
  void OnFailure(const std::string& why);
  void Lose(const std::string& why);

  Opener open_;
  std::chrono::milliseconds retry_;
  std::size_t max_waiting_bytes_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  std::shared_ptr<AnswerTable> table_;
  std::deque<Waiting> queue_, unflushed_;  // to be written; written and not flushed
  std::size_t queue_bytes_ = 0, unflushed_bytes_ = 0;
  bool stopping_ = false, flush_wanted_ = false, writing_ = false;
  std::string problem_;
  std::int64_t lost_ = 0;
  Clock::time_point next_word_{};  // when it may say again that answers are lost
  std::thread thread_;
};

}  // namespace sgmd
