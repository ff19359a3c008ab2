// Envelopes, endpoints and a broker's first answer for tests of anything that sends.
#pragma once

#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "common/transport/client.h"
#include "common/transport/server.h"
#include "tests/support/free_port.h"
#include "tests/support/temp_folder.h"

namespace sgmd::testing {

inline constexpr Digest kRun{0x0123456789abcdef, 0xfedcba9876543210};
inline constexpr std::uint64_t kEpoch = 7;
inline constexpr std::chrono::milliseconds kSoon{5000};

inline NodeIdentity Identity(std::string node) { return {std::move(node), kRun, kEpoch}; }

/// A float32 tensor that owns its bytes: values first, first + 1, ...
inline TensorFrame FloatFrame(std::string name, std::vector<std::int64_t> shape, float first = 0) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values->size(); ++i) (*values)[i] = first + static_cast<float>(i);
  const auto bytes = std::as_bytes(std::span(*values));
  return {{std::move(name), DType::kF32, std::move(shape), bytes}, std::move(values)};
}

inline Envelope Message(wire::Kind kind, std::string node = "broker") {
  Envelope envelope;
  envelope.kind = kind;
  envelope.node = std::move(node);
  envelope.run_id = kRun;
  envelope.epoch = kEpoch;
  return envelope;
}

/// The next message that reaches `server`, or nothing after `timeout`.
inline std::optional<Server::Incoming> Next(Server& server, std::chrono::milliseconds timeout = kSoon) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    if (auto incoming = server.TryReceive()) return incoming;
    Server::Wait({&server}, std::chrono::milliseconds(20));
  }
  return {};
}

/// A Client whose Hello `server` has answered with `answer`; `hello` receives what the server saw.
inline std::unique_ptr<Client> Join(Server& server, const std::string& endpoint, const NodeIdentity& identity,
                                    Envelope answer = Message(wire::Kind::Welcome),
                                    std::optional<Server::Incoming>* hello = nullptr) {
  auto client =
      std::async(std::launch::async, [&] { return std::make_unique<Client>(endpoint, identity, Envelope{}, kSoon); });
  auto incoming = Next(server);
  if (incoming) server.Send(incoming->pipe, answer);
  if (hello != nullptr) *hello = std::move(incoming);
  return client.get();
}
inline std::unique_ptr<Client> Join(Server& server, const std::string& endpoint, const std::string& node,
                                    Envelope answer = Message(wire::Kind::Welcome),
                                    std::optional<Server::Incoming>* hello = nullptr) {
  return Join(server, endpoint, Identity(node), std::move(answer), hello);
}

}  // namespace sgmd::testing
