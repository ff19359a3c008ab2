#include "common/transport/gate.h"

#include <array>
#include <atomic>
#include <csignal>
#include <thread>
#include <vector>
#include <zmq_addon.hpp>

#include "common/error/error.h"
#include "common/log/limited_log.h"
#include "common/transport/socket.h"

namespace sgmd {
namespace {

constexpr const char* kZapAddress = "inproc://zeromq.zap.01";  // where libzmq asks
constexpr const char* kDomain = "sgmd";
constexpr int kStopPollMs = 100;
constexpr std::int64_t kNoLimit = -1;
// ZMQ_ZAP_ENFORCE_DOMAIN: libzmq has had it since 4.3, its header only shows it with the draft interface.
constexpr int kEnforceZapDomain = 93;

std::string ToZ85(const std::string& bytes) {
  char text[41] = {};
  if (bytes.size() != 32) return {};
  zmq_z85_encode(text, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return text;
}

}  // namespace

struct Gate::Impl {
  GateKeys keys;
  zmq::socket_t socket;  // the thread's, from its start to its end
  LimitedLog log;
  std::atomic<bool> stopping{false};
  std::thread thread;

  bool encrypted() const { return !keys.server_secret.empty(); }

  // Signals are for the thread that does the work.
  void Run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (!stopping) {
      std::vector<zmq::message_t> request;
      if (zmq::recv_multipart(socket, std::back_inserter(request))) Answer(request);
    }
  }

  // ZAP 1.0: version, request id, domain, address, routing id, mechanism, credentials; and back version, request id,
  // status, its text, user id, metadata.
  void Answer(const std::vector<zmq::message_t>& request) {
    const auto frame = [&](std::size_t i) { return i < request.size() ? request[i].to_string() : std::string(); };
    std::string user;
    if (encrypted() && frame(5) == "CURVE") {
      const auto known = keys.users.find(ToZ85(frame(6)));
      if (known != keys.users.end()) user = known->second;
    } else if (!encrypted() && frame(5) == "PLAIN" && frame(7) == keys.token) {
      user = frame(6);
    }
    if (user.empty())
      log.Warn("refused a connection from ", frame(3), ": it does not show a key or the token of this run");
    const std::array<std::string, 6> reply{
        frame(0), frame(1), user.empty() ? "400" : "200", user.empty() ? "unknown" : "", user, ""};
    std::vector<zmq::const_buffer> buffers;
    for (const std::string& part : reply) buffers.push_back(zmq::buffer(part));
    zmq::send_multipart(socket, buffers);
  }
};

Gate::Gate(GateKeys keys) : impl_(std::make_unique<Impl>()) {
  impl_->keys = std::move(keys);
  impl_->socket = MakeSocket(zmq::socket_type::rep, kNoLimit);
  impl_->socket.set(zmq::sockopt::rcvtimeo, kStopPollMs);
  impl_->socket.bind(kZapAddress);
  impl_->thread = std::thread([impl = impl_.get()] { impl->Run(); });
}

Gate::~Gate() {
  impl_->stopping = true;
  impl_->thread.join();
  impl_->socket.unbind(kZapAddress);  // at once: closing the socket frees the address only later
}

void Gate::Guard(zmq::socket_t& socket) const {
  if (impl_->encrypted()) {
    socket.set(zmq::sockopt::curve_server, true);
    socket.set(zmq::sockopt::curve_secretkey, impl_->keys.server_secret);
  } else {
    socket.set(zmq::sockopt::plain_server, true);
  }
  socket.set(zmq::sockopt::zap_domain, kDomain);
  // Without it libzmq admits everybody when no handler answers.
  const int enforce = 1;
  if (zmq_setsockopt(socket.handle(), kEnforceZapDomain, &enforce, sizeof enforce) != 0) {
    throw Error("this libzmq cannot refuse unknown keys", {}, "ZMQ_ZAP_ENFORCE_DOMAIN needs libzmq 4.3");
  }
}

}  // namespace sgmd
