// The thread that writes what the answer cache keeps, and what it does while it cannot.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
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
///   writing   a job or a flush takes longer than      failing, but for Flushed; writing when it ends
///             `patience`
///   failing   `retry` has passed: it resumes or       writing, once all that waits is flushed
///             opens the table anew, and writes
///   failing   more waits than `lost_above`            failing; what comes now is dropped and counted as lost
///   any       destruction                             -, after one more attempt; what it cannot write is lost
///
/// No call but Sync waits for the disk. While it is writing, what waits has no bound of its own: whoever adds jobs asks
/// IsBehind first.
class AnswerWriter {
 public:
  using Clock = std::chrono::steady_clock;
  using Job = std::function<void(AnswerTable& table)>;  // may be done twice
  using Opener = std::function<std::shared_ptr<AnswerTable>()>;
  struct State {
    std::string problem;  // why it is failing; empty when it is not
    std::int64_t waiting_bytes = 0, lost = 0;
  };
  struct Limits {
    std::chrono::milliseconds retry = std::chrono::seconds(3), patience = std::chrono::seconds(10);
    std::size_t behind_above = std::size_t{64} << 20, lost_above = std::size_t{256} << 20;  // bytes that wait
  };

  /// `open`: makes the table, now (throws what it throws, but for DiskTrouble) and after failures.
  AnswerWriter(Opener open, const Limits& limits);
  ~AnswerWriter();

  /// `bytes`: what the job holds.
  void Add(Job job, std::size_t bytes);
  /// Whether more than `behind_above` wait and it is not failing: more should not be asked for.
  bool IsBehind() const;
  /// Asks for all jobs so far to be flushed soon. Returns what Flushed is asked with.
  std::uint64_t RequestFlush();
  /// Whether the jobs up to this request are flushed, or it is failing.
  bool Flushed(std::uint64_t request) const;
  /// Waits until all jobs so far are Flushed.
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
  bool FlushIsDue() const;
  std::uint64_t FlushedJobs() const { return added_ - queue_.size() - unflushed_.size(); }
  std::string Problem() const;
  void Run();
  bool WriteOne(Lock& lock);
  bool Flush(Lock& lock);
  bool Recover(Lock& lock);
  bool Attempt(Lock& lock, const std::function<void()>& action);
  void OnFailure(const std::string& why);
  void Lose(const std::string& why);

  Opener open_;
  Limits limits_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  std::shared_ptr<AnswerTable> table_;
  std::deque<Waiting> queue_, unflushed_;  // to be written; written and not flushed
  std::size_t queue_bytes_ = 0, unflushed_bytes_ = 0;
  std::uint64_t added_ = 0, flush_to_ = 0;  // jobs that came, and of them those that are to be flushed soon
  std::optional<Clock::time_point> began_;  // what the thread is doing now, on the disk
  bool stopping_ = false;
  std::string problem_;
  std::int64_t lost_ = 0;
  Clock::time_point next_word_{};  // when it may say again that answers are lost
  std::thread thread_;
};

}  // namespace sgmd
