#include "common/transport/heartbeat.h"

#include <csignal>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/transport/socket.h"

namespace sgmd {

struct Heartbeat::Impl {
  NodeIdentity identity;
  std::string endpoint;
  std::chrono::duration<double> period{};
  std::atomic<std::int64_t> progress{0};
  std::atomic<bool> drain{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::map<std::string, double> scalars;
  bool stopping = false;
  std::thread thread;

  // The thread owns the socket from its first line to its last. Signals are for the thread that does the work.
  void Run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    zmq::socket_t socket = MakeSocket(zmq::socket_type::dealer, identity.node);
    socket.set(zmq::sockopt::linger, 100);
    socket.set(zmq::sockopt::sndtimeo, 0);  // while the broker is away old beats are not worth waiting for
    if (identity.keys) UseClientKeys(socket, *identity.keys);
    socket.connect(endpoint);
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
      beat.progress = progress.load();
      SendEnvelope(socket, {}, beat);
      ReceiveOrders(socket);
    }
  }

  void ReceiveOrders(zmq::socket_t& socket) {
    while (auto raw = TryReceiveRaw(socket, /*has_peer=*/false)) {
      try {
        const Envelope order = DecodeEnvelope(raw->header.bytes, std::move(raw->tensors));
        if (OfSameRun(order, identity) && order.kind == wire::Kind::Drain) drain = true;
      } catch (const Error& error) {
        LogWarning("dropped a malformed control message: ", error.message());
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

void Heartbeat::Progress() { ++impl_->progress; }

void Heartbeat::Report(const std::map<std::string, double>& scalars) {
  std::lock_guard lock(impl_->mutex);
  for (const auto& [name, value] : scalars) impl_->scalars[name] = value;
}

bool Heartbeat::drain_requested() const { return impl_->drain; }

}  // namespace sgmd
