// What lets a process into a run: the keys and the token in the run folder.
//
//   keys/server.public, server.secret      the broker's CURVE pair                          of an encrypted run
//   keys/<user>.public, <user>.secret      that of a role on a host, such as teacher@node3  of an encrypted run
//   keys/token                             what all processes show where nothing is encrypted (ipc)
//
// A user is a role on a host: "teacher@node3", and "teacher" where the topology names no hosts. The folder has mode
// 0700, each file 0600. Keys are Z85 text of 40 characters, the token is 32 hexadecimal digits.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace zmq {
class socket_t;
}

namespace sgmd {

/// What a process shows. Nothing, where `user` is empty: of a socket without a gate.
struct Credentials {
  std::string user;
  std::string token;                                  // where nothing is encrypted
  std::string public_key, secret_key, server_public;  // of an encrypted run

  bool encrypted() const { return !server_public.empty(); }
};

/// What the broker admits by.
struct GateKeys {
  std::string server_secret;                 // of an encrypted run, else empty
  std::map<std::string, std::string> users;  // of an encrypted run: by public key (Z85)
  std::string token;                         // otherwise
};

/// Makes what `folder` lacks; leaves what is there, so that a run can be started again while copies are in use
/// elsewhere. Each file appears whole or not at all. Throws Error when libzmq has no CURVE or the folder cannot be
/// written.
void MakeRunKeys(const std::filesystem::path& folder, const std::vector<std::string>& users, bool encrypted);

/// Replaces all of them at once. Nothing may be up that uses them. Throws Error as MakeRunKeys.
void RotateRunKeys(const std::filesystem::path& folder, const std::vector<std::string>& users, bool encrypted);

/// Each throws Error when libzmq has no CURVE, or a file is missing, is no key, or may be read by others (mode & 077).
Credentials LoadCredentials(const std::filesystem::path& folder, const std::string& user, bool encrypted);
GateKeys LoadGateKeys(const std::filesystem::path& folder, const std::vector<std::string>& users, bool encrypted);

/// Makes `socket` show them; before it connects.
void UseCredentials(zmq::socket_t& socket, const Credentials& credentials);

}  // namespace sgmd
