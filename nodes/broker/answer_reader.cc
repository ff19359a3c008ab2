#include "nodes/broker/answer_reader.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "common/error/error.h"
#include "common/trace/trace.h"
#include "nodes/broker/answer_value.h"

namespace sgmd {

AnswerReader::AnswerReader(Source table) : table_(std::move(table)), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (event_ < 0) ThrowErrno("cannot make an event", "eventfd");
  thread_ = std::thread([this] { Run(); });
}

AnswerReader::~AnswerReader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  ::close(event_);
}

void AnswerReader::Ask(std::uint64_t request, const Digest& key) {
  {
    const std::lock_guard lock(mutex_);
    asked_.push_back({request, key});
  }
  changed_.notify_all();
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

void AnswerReader::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !asked_.empty(); });
    if (stopping_) return;
    const Asked asked = asked_.front();
    asked_.pop_front();
    began_ = Clock::now();
    lock.unlock();
    Done done = Read(asked);
    lock.lock();
    began_.reset();
    done_.push_back(std::move(done));
    ::eventfd_write(event_, 1);
  }
}

AnswerReader::Done AnswerReader::Read(const Asked& asked) const {
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
