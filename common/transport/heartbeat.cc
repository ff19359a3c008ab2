#include "common/transport/heartbeat.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>

#include "common/error/error.h"
#include "common/log/limited_log.h"
#include "common/metrics/work_count.h"
#include "common/transport/socket.h"

namespace sgmd {

struct Heartbeat::Impl {
  NodeIdentity identity;
  std::string endpoint;
  std::chrono::duration<double> period{};
  std::atomic<bool> drain{false};
  std::mutex mutex;
  std::map<std::string, double> scalars;
  LimitedLog log;        // the thread's
  const int stop_event;  // readable once the thread is to end
  std::thread thread;

  Impl() : stop_event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (stop_event < 0) ThrowErrno("cannot make an event", "eventfd");
  }
  ~Impl() { ::close(stop_event); }

  // The thread owns the socket from its first line to its last. Signals are for the thread that does the work.
  void Run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    zmq::socket_t socket = MakeSocket(zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, 100);
    UseCredentials(socket, identity.credentials);
    socket.connect(endpoint);
    auto faults = SendFaults(Channel::kControl);
    for (bool last = false;; last = !ListenUntilTheNextBeat(socket)) {
      Envelope beat;
      beat.kind = wire::Kind::Beat;
      Stamp(beat, identity);
      {
        const std::lock_guard lock(mutex);
        beat.scalars = scalars;
      }
      beat.progress = WorkDone();
      beat.numbers["waiting"] = IsWaiting() ? 1 : 0;
      SendEnvelope(socket, {}, beat, faults);
      if (last) return;
    }
  }

  // False when the thread is to end: one beat more says how far it came.
  bool ListenUntilTheNextBeat(zmq::socket_t& socket) {
    const auto due = std::chrono::steady_clock::now() + period;
    for (auto left = period; left.count() > 0; left = due - std::chrono::steady_clock::now()) {
      zmq::pollitem_t items[] = {{socket.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, stop_event, ZMQ_POLLIN, 0}};
      try {
        zmq::poll(items, 2, std::chrono::ceil<std::chrono::milliseconds>(left));
      } catch (const zmq::error_t& error) {
        if (error.num() != EINTR) throw;  // the process was stopped and goes on
      }
      if (items[1].revents != 0) return false;
      ReceiveOrders(socket);
    }
    return true;
  }

  void ReceiveOrders(zmq::socket_t& socket) {
    while (auto raw = TryReceiveRaw(socket, /*has_pipe=*/false)) {
      try {
        const Envelope order = DecodeEnvelope(raw->header.bytes, std::move(raw->tensors));
        if (OfSameRun(order, identity) && order.kind == wire::Kind::Drain) drain = true;
      } catch (const Error& error) {
        log.Warn("dropped a malformed control message: ", error.message());
      }
    }
  }
};

Heartbeat::Heartbeat(const std::string& control_endpoint, NodeIdentity identity, double beat_seconds)
    : impl_(std::make_unique<Impl>()) {
  impl_->identity = std::move(identity);
  impl_->endpoint = control_endpoint;
  impl_->period = std::chrono::duration<double>(beat_seconds);
  impl_->thread = std::thread([impl = impl_.get()] { impl->Run(); });
}

Heartbeat::~Heartbeat() {
  ::eventfd_write(impl_->stop_event, 1);
  impl_->thread.join();
}

void Heartbeat::Report(const std::map<std::string, double>& scalars) {
  std::lock_guard lock(impl_->mutex);
  for (const auto& [name, value] : scalars) impl_->scalars[name] = value;
}

bool Heartbeat::drain_requested() const { return impl_->drain; }

}  // namespace sgmd
