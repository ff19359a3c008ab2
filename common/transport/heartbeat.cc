#include "common/transport/heartbeat.h"

#include <csignal>

#include <atomic>
#include <condition_variable>
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
  std::condition_variable wake;
  std::map<std::string, double> scalars;
  LimitedLog log;  // the thread's
  bool stopping = false;
  std::thread thread;

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
    for (bool last = false; !last;) {
      Envelope beat;
      beat.kind = wire::Kind::Beat;
      Stamp(beat, identity);
      {
        std::unique_lock lock(mutex);
        wake.wait_for(lock, period, [&] { return stopping; });
        last = stopping;
        beat.scalars = scalars;
      }
      beat.progress = WorkDone();
      beat.numbers["waiting"] = IsWaiting() ? 1 : 0;
      SendEnvelope(socket, {}, beat, faults);
      ReceiveOrders(socket);
    }
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
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_one();
  impl_->thread.join();
}

void Heartbeat::Report(const std::map<std::string, double>& scalars) {
  std::lock_guard lock(impl_->mutex);
  for (const auto& [name, value] : scalars) impl_->scalars[name] = value;
}

bool Heartbeat::drain_requested() const { return impl_->drain; }

}  // namespace sgmd
