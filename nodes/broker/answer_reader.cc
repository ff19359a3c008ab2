#include "nodes/broker/answer_reader.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "common/error/error.h"
#include "common/trace/trace.h"
#include "nodes/broker/answer_value.h"

namespace sgmd {

AnswerReader::AnswerReader(Source table) : table_(std::move(table)), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (event_ < 0) ThrowErrno("cannot make an event", "eventfd");
  filtering_ = std::thread([this] { Filter(); });
  reading_ = std::thread([this] { Read(); });
}

AnswerReader::~AnswerReader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  asked_changed_.notify_all();
  to_read_changed_.notify_all();
  filtering_.join();
  reading_.join();
  ::close(event_);
}

void AnswerReader::Ask(std::uint64_t request, const Digest& key) {
  {
    const std::lock_guard lock(mutex_);
    asked_.push_back({request, key});
  }
  asked_changed_.notify_all();
}

std::optional<AnswerReader::Done> AnswerReader::Take() {
  const std::lock_guard lock(mutex_);
  if (done_.empty()) return {};
  Done done = std::move(done_.front());
  done_.pop_front();
  if (done_.empty()) {
    eventfd_t ignored = 0;
    ::eventfd_read(event_, &ignored);
  }
  return done;
}

AnswerReader::Clock::duration AnswerReader::Busy() const {
  const std::lock_guard lock(mutex_);
  return began_ ? Clock::now() - *began_ : Clock::duration{};
}

// Nothing at the end of its life.
std::optional<AnswerReader::Asked> AnswerReader::Next(Lock& lock, std::deque<Asked>& queue,
                                                      std::condition_variable& changed) const {
  changed.wait(lock, [&] { return stopping_ || !queue.empty(); });
  if (stopping_) return {};
  const Asked next = queue.front();
  queue.pop_front();
  return next;
}

void AnswerReader::Filter() {
  Lock lock(mutex_);
  while (const auto next = Next(lock, asked_, asked_changed_)) {
    lock.unlock();
    const auto table = table_();
    const bool may_be_there = table && table->MayHave(next->key);
    lock.lock();
    if (may_be_there) {
      to_read_.push_back(*next);
      to_read_changed_.notify_all();
    } else {
      Done absent;
      absent.request = next->request;
      absent.key = next->key;
      Finish(std::move(absent));
    }
  }
}

void AnswerReader::Read() {
  Lock lock(mutex_);
  while (const auto next = Next(lock, to_read_, to_read_changed_)) {
    began_ = Clock::now();
    lock.unlock();
    Done done = ReadOne(*next);
    lock.lock();
    began_.reset();
    Finish(std::move(done));
  }
}

void AnswerReader::Finish(Done done) {
  done_.push_back(std::move(done));
  ::eventfd_write(event_, 1);
}

AnswerReader::Done AnswerReader::ReadOne(const Asked& asked) const {
  const trace::Span span("read an answer");
  const auto start = Clock::now();
  Done done;
  done.request = asked.request;
  done.key = asked.key;
  auto value = std::make_shared<std::string>();
  if (const auto table = table_()) done.found = table->Get(asked.key, value.get());
  if (done.found == AnswerTable::Found::kYes) {
    done.answer = DecodeAnswer(std::move(value));
    if (!done.answer) done.found = AnswerTable::Found::kDamaged;
  }
  done.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return done;
}

}  // namespace sgmd
