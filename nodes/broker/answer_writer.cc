#include "nodes/broker/answer_writer.h"

#include <iterator>

#include "common/log/log.h"
#include "common/trace/trace.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kWordPeriod{10};

}  // namespace

AnswerWriter::AnswerWriter(Opener open, const Limits& limits) : open_(std::move(open)), limits_(limits) {
  try {
    table_ = open_();
  } catch (const DiskTrouble& failure) {
    OnFailure(failure.what());
  }
  thread_ = std::thread([this] { Run(); });
}

AnswerWriter::~AnswerWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  if (!queue_.empty()) LogError("score cache: ", queue_.size(), " answers are lost: ", problem_);
}

void AnswerWriter::Add(Job job, std::size_t bytes) {
  const Lock lock(mutex_);
  // While it is failing, what is written and not flushed may have to be written again: it waits too.
  const std::size_t waiting = queue_bytes_ + (problem_.empty() ? 0 : unflushed_bytes_);
  if (waiting + bytes > limits_.lost_above) {
    if (const std::string problem = Problem(); !problem.empty()) return Lose(problem);
  }
  queue_.push_back({std::move(job), bytes});
  queue_bytes_ += bytes;
  ++added_;
  changed_.notify_all();
}

std::string AnswerWriter::Problem() const {
  if (!problem_.empty() || !began_ || Clock::now() - *began_ < limits_.patience) return problem_;
  return "the disk does not answer";
}

bool AnswerWriter::IsBehind() const {
  const Lock lock(mutex_);
  return queue_bytes_ > limits_.behind_above && Problem().empty();
}

void AnswerWriter::Lose(const std::string& why) {
  ++lost_;
  if (Clock::now() < next_word_) return;
  next_word_ = Clock::now() + kWordPeriod;
  LogWarning("score cache: ", lost_, " answers are lost so far, and a replay will miss them: ", why);
}

std::uint64_t AnswerWriter::RequestFlush() {
  const Lock lock(mutex_);
  flush_to_ = added_;
  changed_.notify_all();
  return added_;
}

bool AnswerWriter::Flushed(std::uint64_t request) const {
  const Lock lock(mutex_);
  return FlushedJobs() >= request || !problem_.empty();
}

void AnswerWriter::Sync() {
  const std::uint64_t request = RequestFlush();
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return FlushedJobs() >= request || !problem_.empty(); });
}

std::shared_ptr<AnswerTable> AnswerWriter::table() const {
  const std::lock_guard lock(mutex_);
  return table_;
}

AnswerWriter::State AnswerWriter::state() const {
  const std::lock_guard lock(mutex_);
  return {Problem(), static_cast<std::int64_t>(queue_bytes_), lost_};
}

bool AnswerWriter::HasWork() const { return !problem_.empty() || !queue_.empty() || FlushIsDue(); }

// Once the jobs that are to be flushed soon, or all when it ends or has failed, are written.
bool AnswerWriter::FlushIsDue() const {
  if (!problem_.empty()) return queue_.empty();
  if (unflushed_.empty()) return false;
  return FlushedJobs() < flush_to_ ? added_ - queue_.size() >= flush_to_ : stopping_ && queue_.empty();
}

void AnswerWriter::Run() {
  Lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || HasWork(); });
    if (!HasWork()) return;
    bool done = problem_.empty() || Recover(lock);
    while (done && !queue_.empty() && !FlushIsDue()) done = WriteOne(lock);
    if (done && FlushIsDue()) done = Flush(lock);
    if (done) continue;
    if (stopping_) return;
    changed_.wait_for(lock, limits_.retry, [&] { return stopping_; });
  }
}

bool AnswerWriter::WriteOne(Lock& lock) {
  const trace::Span span("write an answer");
  const Job job = queue_.front().job;
  if (!Attempt(lock, [&] { job(*table_); })) return false;
  unflushed_bytes_ += queue_.front().bytes;
  queue_bytes_ -= queue_.front().bytes;
  unflushed_.push_back(std::move(queue_.front()));
  queue_.pop_front();
  changed_.notify_all();
  return unflushed_bytes_ < table_->flush_bytes() || Flush(lock);
}

bool AnswerWriter::Flush(Lock& lock) {
  const trace::Span span("flush answers");
  if (!Attempt(lock, [&] { table_->Flush(); })) return false;
  std::deque<Waiting> flushed;  // is freed without the lock: it may be megabytes
  flushed.swap(unflushed_);
  unflushed_bytes_ = 0;
  if (queue_.empty()) {
    if (!problem_.empty()) LogInfo("score cache: answers are stored again; ", lost_, " were lost");
    problem_.clear();
  }
  changed_.notify_all();
  lock.unlock();
  flushed.clear();
  lock.lock();
  return true;
}

bool AnswerWriter::Recover(Lock& lock) {
  if (table_ && Attempt(lock, [&] {
        if (!table_->Resume()) throw DiskTrouble("score cache: does not resume");
      })) {
    return true;
  }
  std::shared_ptr<AnswerTable> closing = std::move(table_), opened;
  const bool done = Attempt(lock, [&] {
    // Whoever reads it must not be the one that closes it, which waits for the disk.
    while (closing.use_count() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    closing.reset();
    opened = open_();
  });
  if (!done) return false;
  table_ = std::move(opened);
  return true;
}

// Only this thread changes table_ and takes from the queue, so `action` may use them without the lock.
bool AnswerWriter::Attempt(Lock& lock, const std::function<void()>& action) {
  std::string why;
  began_ = Clock::now();
  lock.unlock();
  try {
    action();
  } catch (const Error& failure) {
    why = failure.what();
  }
  lock.lock();
  began_.reset();
  changed_.notify_all();
  if (!why.empty()) OnFailure(why);
  return why.empty();
}

void AnswerWriter::OnFailure(const std::string& why) {
  if (problem_.empty()) LogError(why, "; answers wait in memory, and it is tried again every few seconds");
  problem_ = why;
  queue_bytes_ += unflushed_bytes_;
  queue_.insert(queue_.begin(), std::make_move_iterator(unflushed_.begin()), std::make_move_iterator(unflushed_.end()));
  unflushed_.clear();
  unflushed_bytes_ = 0;
  changed_.notify_all();
}

}  // namespace sgmd
