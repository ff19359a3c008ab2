#include "common/transport/socket.h"

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr int kHighWaterMark = 4096;  // messages
constexpr int kLingerMs = 1000;       // a closing process still delivers its last words
constexpr int kHandshakeMs = 10'000;
constexpr int kZmtpHeartbeatMs = 2000, kZmtpTimeoutMs = 10'000;

zmq::context_t& Context() {
  static zmq::context_t context(1);
  return context;
}

void ReleaseOwner(void* /*data*/, void* hint) { delete static_cast<std::shared_ptr<const void>*>(hint); }

zmq::message_t ToMessage(const TensorFrame& frame) {
  const auto bytes = frame.view.bytes;
  if (frame.owner == nullptr || bytes.empty()) return zmq::message_t(bytes.data(), bytes.size());
  auto* owner = new std::shared_ptr<const void>(frame.owner);
  return zmq::message_t(const_cast<std::byte*>(bytes.data()), bytes.size(), &ReleaseOwner, owner);
}

// A signal may interrupt any call; the flags its handler sets are looked at between messages, never inside one.
template <typename Call>
auto Uninterrupted(Call call) {
  while (true) {
    try {
      return call();
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) throw;
    }
  }
}

Frame ToFrame(zmq::message_t message) {
  auto owner = std::make_shared<zmq::message_t>(std::move(message));
  return {{static_cast<const std::byte*>(owner->data()), owner->size()}, owner};
}

}  // namespace

zmq::socket_t MakeSocket(zmq::socket_type type, std::int64_t max_frame_bytes) {
  zmq::socket_t socket(Context(), type);
  socket.set(zmq::sockopt::maxmsgsize, max_frame_bytes);
  socket.set(zmq::sockopt::sndhwm, kHighWaterMark);
  socket.set(zmq::sockopt::rcvhwm, kHighWaterMark);
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
  socket.set(zmq::sockopt::heartbeat_ivl, kZmtpHeartbeatMs);
  socket.set(zmq::sockopt::heartbeat_timeout, kZmtpTimeoutMs);
  return socket;
}

bool SendEnvelope(zmq::socket_t& socket, const std::string& pipe, const Envelope& envelope) {
  const auto header = EncodeHeader(envelope);
  try {
    const auto now = zmq::send_flags::dontwait;
    if (!pipe.empty() && !Uninterrupted([&] { return socket.send(zmq::buffer(pipe), zmq::send_flags::sndmore | now); }))
      return false;
    const auto send = [&](zmq::message_t frame, bool last) {
      const auto flags = last ? now : zmq::send_flags::sndmore | now;
      return Uninterrupted([&] { return socket.send(frame, flags); }).has_value();
    };
    if (!send(zmq::message_t(header.data(), header.size()), envelope.tensors.empty())) return false;
    for (std::size_t i = 0; i < envelope.tensors.size(); ++i) {
      send(ToMessage(envelope.tensors[i]), i + 1 == envelope.tensors.size());
    }
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return false;
    throw Error(StrCat("cannot send: ", error.what()));
  }
  return true;
}

std::optional<RawMessage> TryReceiveRaw(zmq::socket_t& socket, bool has_pipe) {
  RawMessage message;
  std::vector<Frame> frames;
  for (bool more = true; more;) {
    zmq::message_t part;
    if (!Uninterrupted([&] { return socket.recv(part, zmq::recv_flags::dontwait); })) return {};
    more = part.more();
    // Every frame of a message has it; null where no gate asked who connects.
    if (const char* user = zmq_msg_gets(part.handle(), "User-Id")) message.user = user;
    frames.push_back(ToFrame(std::move(part)));
  }
  std::size_t next = 0;
  if (has_pipe) {
    const auto id = frames[next++].bytes;
    message.pipe.assign(reinterpret_cast<const char*>(id.data()), id.size());
  }
  if (next < frames.size()) message.header = frames[next++];
  message.tensors.assign(frames.begin() + static_cast<std::ptrdiff_t>(next), frames.end());
  return message;
}

}  // namespace sgmd
