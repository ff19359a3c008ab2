// Encryption and admission: CURVE key pairs in the run folder, and the broker's gate that lets in no other key.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace zmq {
class socket_t;
}

namespace sgmd {

/// Z85 text of 40 characters each.
struct CurveKeyPair {
  std::string public_key, secret_key;
};

/// What a node holds: the pair that all clients of a run share, and the key by which it knows the broker.
struct ClientKeys {
  CurveKeyPair own;
  std::string server_public;
};

/// What the broker holds: its own pair, and the key of the clients that it admits.
struct ServerKeys {
  CurveKeyPair own;
  std::string client_public;
};

/// Makes `folder` (mode 0700) with server.public, server.secret, client.public and client.secret (mode 0600, Z85 text),
/// whole or not at all; leaves keys that are there. Throws Error when libzmq has no CURVE or the folder cannot be
/// written.
void MakeRunKeys(const std::filesystem::path& folder);

/// Each throws Error when libzmq has no CURVE, or a file is missing, is no key, or may be read by others (mode & 077).
ClientKeys LoadClientKeys(const std::filesystem::path& folder);
ServerKeys LoadServerKeys(const std::filesystem::path& folder);

/// Makes `socket` speak CURVE as a client; before it connects.
void UseClientKeys(zmq::socket_t& socket, const ClientKeys& keys);

/// The process's ZAP handler, in a thread of its own. There can be one at a time, and it must outlive the sockets it
/// guards.
class CurveGate {
 public:
  explicit CurveGate(ServerKeys keys);
  ~CurveGate();

  /// Makes `socket` speak CURVE as the server and ask this gate about every connection; before it binds.
  void Guard(zmq::socket_t& socket) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
