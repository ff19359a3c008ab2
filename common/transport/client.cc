#include "common/transport/client.h"

#include <random>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/transport/socket.h"

namespace sgmd {
namespace {

using Clock = std::chrono::steady_clock;

// The same for every Client of this process, another one after a restart.
std::uint64_t ProcessNumber() {
  static const std::uint64_t number = (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  return number;
}

}  // namespace

struct Client::Impl {
  NodeIdentity identity;
  zmq::socket_t socket;

  std::string Advice() const {
    const std::string up = "is the run still up? sgmd-launch status shows it";
    if (!identity.keys) return up;
    return up +
           "; is this port of its host open to others, and is keys/ in the run folder the same on both hosts? "
           "(logs/broker.log names those that it refused)";
  }

  // One waiting message if it is valid and of this run.
  std::optional<Envelope> TryReceive(bool* was_there) {
    auto raw = TryReceiveRaw(socket, /*has_peer=*/false);
    *was_there = raw.has_value();
    if (!raw) return {};
    try {
      Envelope envelope = DecodeEnvelope(raw->header.bytes, std::move(raw->tensors));
      // A refusal comes from a broker of another run or epoch, and must be heard all the same.
      if (OfSameRun(envelope, identity) || envelope.kind == wire::Kind::Refused) return envelope;
      LogDebug("dropped a ", wire::EnumNameKind(envelope.kind), " of another run or epoch");
    } catch (const Error& error) {
      LogWarning("dropped a malformed message: ", error.message());
    }
    return {};
  }
};

Client::Client(const std::string& endpoint, NodeIdentity identity, Envelope hello, std::chrono::milliseconds patience)
    : impl_(new Impl{identity, MakeSocket(zmq::socket_type::dealer, identity.node)}) {
  if (identity.keys) UseClientKeys(impl_->socket, *identity.keys);
  impl_->socket.connect(endpoint);
  hello.kind = wire::Kind::Hello;
  hello.process = ProcessNumber();
  Send(std::move(hello));
  const auto deadline = Clock::now() + patience;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    const std::optional<Envelope> answer = left.count() > 0 ? Receive(left) : std::nullopt;
    if (!answer) throw Error("the broker does not answer", endpoint, impl_->Advice());
    if (answer->kind == wire::Kind::Refused)
      throw Error("the broker refused " + identity.node + ": " + answer->text, endpoint);
    if (answer->kind == wire::Kind::Welcome) return;
    // A process that had this name before may still have been owed something.
    LogDebug("dropped a ", wire::EnumNameKind(answer->kind), " that came before Welcome");
  }
}

Client::~Client() = default;

void Client::Send(Envelope envelope) {
  Stamp(envelope, impl_->identity);
  SendEnvelope(impl_->socket, {}, envelope);
}

std::optional<Envelope> Client::Receive(std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (true) {
    bool was_there = false;
    if (auto envelope = impl_->TryReceive(&was_there)) {
      if (envelope->kind == wire::Kind::Failed) throw Error(envelope->text, "broker");
      return envelope;
    }
    if (was_there) continue;
    std::chrono::milliseconds left{-1};
    if (timeout.count() >= 0) {
      left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      if (left.count() <= 0) return {};
    }
    zmq::pollitem_t item{impl_->socket.handle(), 0, ZMQ_POLLIN, 0};
    try {
      zmq::poll(&item, 1, left);
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) throw;
      if (timeout.count() < 0) return {};  // let a caller that waits for ever look at its signal flags
    }
  }
}

const NodeIdentity& Client::identity() const { return impl_->identity; }

}  // namespace sgmd
