// The ZeroMQ socket under Client, Heartbeat and Server: options, and whole envelopes in and out.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/transport/envelope.h"

namespace sgmd {

/// A received multipart message, not yet decoded.
struct RawMessage {
  std::string peer;  // routing id; empty on a DEALER
  Frame header;
  std::vector<Frame> tensors;
};

/// A socket of the process-wide context with every limit set explicitly: message size, high-water mark, handshake
/// interval, ZMTP heartbeats, one second of linger.
zmq::socket_t MakeSocket(zmq::socket_type type, const std::string& routing_id = {});

/// Sends [peer,] header, tensor frames. Frames with an owner go without a copy and release it when ZeroMQ is done with
/// them (on its own thread). False when a ROUTER has no such peer or its queue is full, or when ZMQ_SNDTIMEO has
/// passed.
bool SendEnvelope(zmq::socket_t& socket, const std::string& peer, const Envelope& envelope);

/// The next whole message, or nothing when none is waiting. Zero-copy: frames own the received messages.
std::optional<RawMessage> TryReceiveRaw(zmq::socket_t& socket, bool has_peer);

}  // namespace sgmd
