// The ZeroMQ socket under Client, Heartbeat, Gate and Server: options, and whole envelopes in and out.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/transport/envelope.h"
#include "common/transport/identity.h"
#include "common/transport/message_faults.h"

namespace sgmd {

/// A received multipart message, not yet decoded.
struct RawMessage {
  std::string pipe;  // the connection that it came by, as ROUTER numbers them; empty on a DEALER
  std::string user;  // whom the gate let in there; empty where there is none
  Frame header;
  std::vector<Frame> tensors;
};

inline constexpr std::int64_t kMaxFrameBytes = std::int64_t{1} << 32;

/// A socket of the process-wide context with every limit set explicitly: frame size (a peer that sends a larger frame
/// is disconnected before it is read), high-water mark, handshake interval, ZMTP heartbeats, one second of linger.
zmq::socket_t MakeSocket(zmq::socket_type type, std::int64_t max_frame_bytes = kMaxFrameBytes);

/// Sends [pipe,] header, tensor frames, at once or not at all. Frames with an owner go without a copy and release it
/// when ZeroMQ is done with them (on its own thread). False when a ROUTER has no such pipe, or the queue is full.
/// `damaged`: with a header whose checksum fails, as a failpoint wants it.
bool SendEnvelope(zmq::socket_t& socket, const std::string& pipe, const Envelope& envelope, bool damaged = false);

/// The same where failpoints of a socket may come between.
struct Outgoing {
  std::string pipe;
  Envelope envelope;
};
bool SendEnvelope(zmq::socket_t& socket, const std::string& pipe, const Envelope& envelope,
                  MessageFaults<Outgoing>& faults);

/// What failpoints do to the messages that go out on a socket of this channel.
MessageFaults<Outgoing> SendFaults(Channel channel);

/// The next whole message, or nothing when none is waiting. Zero-copy: frames own the received messages.
std::optional<RawMessage> TryReceiveRaw(zmq::socket_t& socket, bool has_pipe);

}  // namespace sgmd
