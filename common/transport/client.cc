#include "common/transport/client.h"

#include "common/error/error.h"
#include "common/log/limited_log.h"
#include "common/metrics/work_count.h"
#include "common/trace/trace.h"
#include "common/transport/link.h"
#include "common/transport/socket.h"

namespace sgmd {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kHelloPeriod{1000}, kReceiptPeriod{1000};

milliseconds Until(Clock::time_point when) {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(when - Clock::now()));
}

}  // namespace

struct Client::Impl {
  NodeIdentity identity;
  std::string endpoint;
  zmq::socket_t socket;
  Envelope hello;
  Link link;
  LimitedLog log;
  bool welcome = false, owes_receipt = false;
  Clock::time_point next_hello{}, next_receipt{};

  MessageFaults<Outgoing> faults = SendFaults(identity.channel);

  bool SendNow(Envelope envelope) {
    Stamp(envelope, identity);
    return SendEnvelope(socket, {}, envelope, faults);
  }

  void SayHello() {
    if (Clock::now() < next_hello) return;
    next_hello = Clock::now() + kHelloPeriod;
    hello.number = link.sent();
    hello.received = link.received();
    SendNow(hello);
  }

  void SendReceipt() {
    owes_receipt = false;
    next_receipt = Clock::now() + kReceiptPeriod;
    SendNow(link.Say(wire::Kind::Receipt));
  }

  void Flush() {
    while (const Envelope* next = link.ToSend()) {
      if (!SendEnvelope(socket, {}, *next, faults)) return;
      link.Advance();
    }
  }

  // A message for the node, out of one that came; nothing where it was for the link, or is not to be dealt with.
  std::optional<Envelope> Take(Envelope envelope) {
    if (envelope.kind == wire::Kind::Refused) return envelope;  // by a broker of another run or epoch, perhaps
    if (!OfSameRun(envelope, identity)) {
      LogDebug("dropped a ", wire::EnumNameKind(envelope.kind), " of another run or epoch");
      return {};
    }
    link.Acknowledge(envelope.received);
    switch (envelope.kind) {
      case wire::Kind::WhoAreYou:
        SayHello();
        return {};
      case wire::Kind::Welcome:
        welcome = true;
        link.Rewind();
        Flush();
        return {};
      case wire::Kind::Missing:
        link.Rewind();
        Flush();
        return {};
      case wire::Kind::Receipt:
        if (envelope.number > link.received()) SendNow(link.Say(wire::Kind::Missing));
        return {};
      default:
        return envelope.number == 0 || InOrder(envelope.number) ? std::optional(std::move(envelope)) : std::nullopt;
    }
  }

  bool InOrder(std::uint64_t number) {
    const Link::Arrival arrival = link.OnArrival(number);
    owes_receipt = true;
    if (arrival == Link::Arrival::kGap) SendNow(link.Say(wire::Kind::Missing));
    return arrival == Link::Arrival::kNext;
  }

  std::optional<Envelope> TryReceive(bool* was_there) {
    auto raw = TryReceiveRaw(socket, /*has_pipe=*/false);
    *was_there = raw.has_value();
    if (!raw) return {};
    const trace::Span span("decode");
    try {
      return Take(DecodeEnvelope(raw->header.bytes, std::move(raw->tensors)));
    } catch (const Error& error) {
      log.Warn("dropped a malformed message: ", error.message());
      return {};
    }
  }

  // Waits for something to read, at most until `deadline`; false when a signal came instead.
  bool Wait(std::optional<Clock::time_point> deadline) {
    const Waiting waiting;
    const trace::Span span("wait");
    Flush();
    if (welcome && (owes_receipt || Clock::now() >= next_receipt)) SendReceipt();
    if (!welcome) SayHello();
    milliseconds left = Until(welcome ? next_receipt : next_hello);
    if (deadline) left = std::min(left, Until(*deadline));
    zmq::pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
    try {
      zmq::poll(&item, 1, left);
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) throw;
      return false;
    }
    return true;
  }

  std::string Advice() const {
    const std::string up = "is the run still up? sgmd-launch status shows it";
    if (!identity.credentials.encrypted()) return up;
    return up +
           "; is this port of its host open to others, and is keys/ in the run folder the same on both hosts? "
           "(logs/broker.log names those that it refused)";
  }
};

Client::Client(const std::string& endpoint, NodeIdentity identity, Envelope hello, milliseconds patience)
    : impl_(new Impl{std::move(identity), endpoint, MakeSocket(zmq::socket_type::dealer), std::move(hello), {}, {}}) {
  UseCredentials(impl_->socket, impl_->identity.credentials);
  impl_->socket.connect(endpoint);
  impl_->hello.kind = wire::Kind::Hello;
  const auto deadline = Clock::now() + patience;
  while (!impl_->welcome) {
    bool was_there = false;
    // Whatever comes before Welcome was for a process that had this name before.
    const auto answer = impl_->TryReceive(&was_there);
    if (answer && answer->kind == wire::Kind::Refused)
      throw Error("the broker refused " + impl_->identity.node + ": " + answer->text, endpoint);
    if (was_there) continue;
    if (Clock::now() >= deadline) throw Error("the broker does not answer", endpoint, impl_->Advice());
    impl_->Wait(deadline);
  }
}

Client::~Client() = default;

void Client::Send(Envelope envelope) {
  const trace::Span span("send", {.kind = wire::EnumNameKind(envelope.kind)});
  if (!IsNumbered(envelope.kind)) {
    impl_->SendNow(std::move(envelope));
    return;
  }
  Stamp(envelope, impl_->identity);
  impl_->link.Push(std::move(envelope));
  impl_->Flush();
}

std::optional<Envelope> Client::Receive(milliseconds timeout) {
  std::optional<Clock::time_point> deadline;
  if (timeout.count() >= 0) deadline = Clock::now() + timeout;
  while (true) {
    bool was_there = false;
    if (auto envelope = impl_->TryReceive(&was_there)) {
      const bool last = envelope->kind == wire::Kind::Close || envelope->kind == wire::Kind::Failed;
      if (last) impl_->SendReceipt();  // nobody will call again
      if (envelope->kind == wire::Kind::Failed) throw Error(envelope->text, "broker");
      return envelope;
    }
    if (was_there) continue;
    if (deadline && Clock::now() >= *deadline) return {};
    if (!impl_->Wait(deadline) && !deadline) return {};  // let the caller look at its signal flags
  }
}

const NodeIdentity& Client::identity() const { return impl_->identity; }

}  // namespace sgmd
