#include "nodes/broker/answer_writer.h"

#include <iterator>

#include "common/log/log.h"
#include "common/trace/trace.h"

namespace sgmd {
namespace {

constexpr std::size_t kQueueLimit = 64;  // jobs, while it is not failing
constexpr std::chrono::seconds kRoomPatience{5}, kWordPeriod{10};

}  // namespace

AnswerWriter::AnswerWriter(Opener open, std::chrono::milliseconds retry, std::size_t max_waiting_bytes)
    : open_(std::move(open)), retry_(retry), max_waiting_bytes_(max_waiting_bytes) {
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
  Lock lock(mutex_);
  const auto has_room = [&] { return queue_.size() < kQueueLimit || !problem_.empty(); };
  if (!changed_.wait_for(lock, kRoomPatience, has_room)) return Lose("the disk is too slow");
  // While it is failing, what is written and not flushed may have to be written again: it waits too.
  const std::size_t waiting = queue_bytes_ + (problem_.empty() ? 0 : unflushed_bytes_);
  if (waiting + bytes > max_waiting_bytes_) return Lose(problem_);
  queue_.push_back({std::move(job), bytes});
  queue_bytes_ += bytes;
  changed_.notify_all();
}

void AnswerWriter::Lose(const std::string& why) {
  ++lost_;
  if (Clock::now() < next_word_) return;
  next_word_ = Clock::now() + kWordPeriod;
  LogWarning("score cache: ", lost_, " answers are lost so far, and a replay will miss them: ", why);
}

void AnswerWriter::Sync() {
  const trace::Span span("wait for answers to be on disk");
  Lock lock(mutex_);
  flush_wanted_ = true;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !problem_.empty() || (queue_.empty() && unflushed_.empty() && !writing_); });
}

std::shared_ptr<AnswerTable> AnswerWriter::table() const {
  const std::lock_guard lock(mutex_);
  return table_;
}

AnswerWriter::State AnswerWriter::state() const {
  const std::lock_guard lock(mutex_);
  return {problem_, static_cast<std::int64_t>(queue_bytes_), lost_};
}

bool AnswerWriter::HasWork() const {
  return !problem_.empty() || !queue_.empty() || (!unflushed_.empty() && (flush_wanted_ || stopping_));
}

void AnswerWriter::Run() {
  Lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || HasWork(); });
    if (!HasWork()) return;
    bool done = problem_.empty() || Recover(lock);
    while (done && !queue_.empty()) done = WriteOne(lock);
    if (done && (flush_wanted_ || stopping_ || !problem_.empty())) done = Flush(lock);
    if (done) continue;
    if (stopping_) return;
    changed_.wait_for(lock, retry_, [&] { return stopping_; });
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
  unflushed_.clear();
  unflushed_bytes_ = 0;
  if (queue_.empty()) {
    flush_wanted_ = false;
    if (!problem_.empty()) LogInfo("score cache: answers are stored again; ", lost_, " were lost");
    problem_.clear();
  }
  changed_.notify_all();
  return true;
}

bool AnswerWriter::Recover(Lock& lock) {
  if (table_ && Attempt(lock, [&] {
        if (!table_->Resume()) throw DiskTrouble("score cache: does not resume");
      })) {
    return true;
  }
  table_.reset();
  std::shared_ptr<AnswerTable> opened;
  if (!Attempt(lock, [&] { opened = open_(); })) return false;
  table_ = std::move(opened);
  return true;
}

// Only this thread changes table_ and takes from the queue, so `action` may use them without the lock.
bool AnswerWriter::Attempt(Lock& lock, const std::function<void()>& action) {
  std::string why;
  writing_ = true;
  lock.unlock();
  try {
    action();
  } catch (const Error& failure) {
    why = failure.what();
  }
  lock.lock();
  writing_ = false;
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
