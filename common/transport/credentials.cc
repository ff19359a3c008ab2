#include "common/transport/credentials.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <zmq.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeyText = 40, kKeyBytes = 32, kTokenBytes = 16;
constexpr char kHexadecimal[] = "0123456789abcdef";
constexpr char kServer[] = "server", kToken[] = "token", kPublic[] = ".public", kSecret[] = ".secret";

void RequireCurve() {
  if (zmq_has("curve") == 0) {
    throw Error("this libzmq cannot encrypt", {},
                "it was built without CURVE; use one that has libsodium, as Debian's does");
  }
}

// Under another name first, so that a reader never sees half of it.
void WritePrivately(const fs::path& path, const std::string& text) {
  const fs::path staged = StagingFolder(path);
  fs::remove(staged);
  const int fd = ::open(staged.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) ThrowErrno("cannot write", staged.string());
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  if (!written) throw Error("cannot write", staged.string());
  fs::rename(staged, path);
}

void MakeKeyPair(const fs::path& folder, const std::string& name) {
  if (fs::exists(folder / (name + kSecret)) && fs::exists(folder / (name + kPublic))) return;
  char public_key[kKeyText + 1], secret_key[kKeyText + 1];
  if (zmq_curve_keypair(public_key, secret_key) != 0) throw Error("cannot make a key pair", folder.string());
  WritePrivately(folder / (name + kPublic), public_key);
  WritePrivately(folder / (name + kSecret), secret_key);
}

void MakeToken(const fs::path& path) {
  if (fs::exists(path)) return;
  std::uint8_t bytes[kTokenBytes];
  if (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) ThrowErrno("cannot draw", "a token");
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kHexadecimal[byte >> 4];
    text += kHexadecimal[byte & 15];
  }
  WritePrivately(path, text);
}

// The text never becomes part of an error.
std::string ReadPrivately(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw Error("the run's key is missing", path.string(),
                "sgmd-launch up on the broker's host makes it; the run folder must be the same on every host");
  }
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw Error("other users can read this key", path.string(), "chmod 600 " + path.string());
  }
  return ReadFile(path);
}

std::string ReadKey(const fs::path& path) {
  const std::string key = ReadPrivately(path);
  std::uint8_t bytes[kKeyBytes];
  // libzmq reads no further than a zero byte, and is content with a part of a key.
  const bool whole = key.size() == kKeyText && key.find('\0') == std::string::npos;
  if (!whole || zmq_z85_decode(bytes, key.c_str()) == nullptr) {
    throw Error("not a key", path.string(), "sgmd-launch keys --rotate makes new keys while the run is down");
  }
  return key;
}

std::string ReadToken(const fs::path& path) {
  std::string token = ReadPrivately(path);
  if (token.size() == 2 * kTokenBytes && token.find_first_not_of(kHexadecimal) == std::string::npos) return token;
  throw Error("not a token", path.string(), "sgmd-launch keys --rotate makes a new one while the run is down");
}

}  // namespace

void MakeRunKeys(const fs::path& folder, const std::vector<std::string>& users, bool encrypted) {
  fs::create_directories(folder.parent_path());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) ThrowErrno("cannot make", folder.string());
  if (!encrypted) return MakeToken(folder / kToken);
  RequireCurve();
  MakeKeyPair(folder, kServer);
  for (const std::string& user : users) MakeKeyPair(folder, user);
}

void RotateRunKeys(const fs::path& folder, const std::vector<std::string>& users, bool encrypted) {
  const fs::path staged = StagingFolder(folder);
  fs::remove_all(staged);
  MakeRunKeys(staged, users, encrypted);
  CommitFolder(folder);
}

Credentials LoadCredentials(const fs::path& folder, const std::string& user, bool encrypted) {
  Credentials credentials{user, {}, {}, {}, {}};
  if (encrypted) {
    RequireCurve();
    credentials.public_key = ReadKey(folder / (user + kPublic));
    credentials.secret_key = ReadKey(folder / (user + kSecret));
    credentials.server_public = ReadKey(folder / (std::string(kServer) + kPublic));
  } else {
    credentials.token = ReadToken(folder / kToken);
  }
  return credentials;
}

GateKeys LoadGateKeys(const fs::path& folder, const std::vector<std::string>& users, bool encrypted) {
  GateKeys keys;
  if (encrypted) {
    RequireCurve();
    keys.server_secret = ReadKey(folder / (std::string(kServer) + kSecret));
    for (const std::string& user : users) keys.users[ReadKey(folder / (user + kPublic))] = user;
  } else {
    keys.token = ReadToken(folder / kToken);
  }
  return keys;
}

void UseCredentials(zmq::socket_t& socket, const Credentials& credentials) {
  if (credentials.encrypted()) {
    socket.set(zmq::sockopt::curve_serverkey, credentials.server_public);
    socket.set(zmq::sockopt::curve_publickey, credentials.public_key);
    socket.set(zmq::sockopt::curve_secretkey, credentials.secret_key);
  } else if (!credentials.user.empty()) {
    socket.set(zmq::sockopt::plain_username, credentials.user);
    socket.set(zmq::sockopt::plain_password, credentials.token);
  }
}

}  // namespace sgmd
