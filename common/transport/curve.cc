#include "common/transport/curve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <thread>
#include <vector>
#include <zmq_addon.hpp>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "common/transport/socket.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeyText = 40, kKeyBytes = 32;
constexpr const char* kZapAddress = "inproc://zeromq.zap.01";  // where libzmq asks
constexpr const char* kDomain = "sgmd";
constexpr int kStopPollMs = 100;
// ZMQ_ZAP_ENFORCE_DOMAIN: libzmq has had it since 4.3, its header only shows it with the draft interface.
constexpr int kEnforceZapDomain = 93;

using KeyBytes = std::array<std::uint8_t, kKeyBytes>;

void RequireCurve() {
  if (zmq_has("curve") == 0) {
    throw Error("this libzmq cannot encrypt", {},
                "it was built without CURVE; use one that has libsodium, as Debian's does");
  }
}

void WritePrivately(const fs::path& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) ThrowErrno("cannot write", path.string());
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  if (!written) throw Error("cannot write", path.string());
}

void WriteKeyPair(const fs::path& folder, const std::string& name) {
  char public_key[kKeyText + 1], secret_key[kKeyText + 1];
  if (zmq_curve_keypair(public_key, secret_key) != 0) throw Error("cannot make a key pair", folder.string());
  WritePrivately(folder / (name + ".public"), public_key);
  WritePrivately(folder / (name + ".secret"), secret_key);
}

// The text of a key never becomes part of an error.
std::string ReadKey(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw Error("the run's key is missing", path.string(),
                "sgmd-launch up on the broker's host makes it; the run folder must be the same on every host");
  }
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw Error("other users can read this key", path.string(), "chmod 600 " + path.string());
  }
  const std::string key = ReadFile(path);
  KeyBytes bytes;
  if (key.size() != kKeyText || zmq_z85_decode(bytes.data(), key.c_str()) == nullptr) {
    throw Error("not a key", path.string(), "remove the folder while the run is down: sgmd-launch up makes new keys");
  }
  return key;
}

CurveKeyPair ReadKeyPair(const fs::path& folder, const std::string& name) {
  RequireCurve();
  return {ReadKey(folder / (name + ".public")), ReadKey(folder / (name + ".secret"))};
}

}  // namespace

void MakeRunKeys(const fs::path& folder) {
  RequireCurve();
  if (fs::exists(folder)) return;
  fs::create_directories(folder.parent_path());
  const fs::path staged = StagingFolder(folder);
  fs::remove_all(staged);
  if (::mkdir(staged.c_str(), 0700) != 0) ThrowErrno("cannot make", staged.string());
  WriteKeyPair(staged, "server");
  WriteKeyPair(staged, "client");
  CommitFolder(folder);
}

ClientKeys LoadClientKeys(const fs::path& folder) {
  return {ReadKeyPair(folder, "client"), ReadKey(folder / "server.public")};
}

ServerKeys LoadServerKeys(const fs::path& folder) {
  return {ReadKeyPair(folder, "server"), ReadKey(folder / "client.public")};
}

void UseClientKeys(zmq::socket_t& socket, const ClientKeys& keys) {
  socket.set(zmq::sockopt::curve_serverkey, keys.server_public);
  socket.set(zmq::sockopt::curve_publickey, keys.own.public_key);
  socket.set(zmq::sockopt::curve_secretkey, keys.own.secret_key);
}

struct CurveGate::Impl {
  ServerKeys keys;
  KeyBytes admitted{};
  zmq::socket_t socket;  // the thread's, from its start to its end
  std::atomic<bool> stopping{false};
  std::thread thread;

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
    const bool known = frame(5) == "CURVE" && frame(6) == std::string(admitted.begin(), admitted.end());
    if (!known) LogWarning("refused a connection from ", frame(3), ": its key is not that of this run");
    const std::array<std::string, 6> reply{frame(0), frame(1), known ? "200" : "400", known ? "" : "unknown key",
                                           "",       ""};
    std::vector<zmq::const_buffer> buffers;
    for (const std::string& part : reply) buffers.push_back(zmq::buffer(part));
    zmq::send_multipart(socket, buffers);
  }
};

CurveGate::CurveGate(ServerKeys keys) : impl_(std::make_unique<Impl>()) {
  impl_->keys = std::move(keys);
  zmq_z85_decode(impl_->admitted.data(), impl_->keys.client_public.c_str());
  impl_->socket = MakeSocket(zmq::socket_type::rep);
  impl_->socket.set(zmq::sockopt::rcvtimeo, kStopPollMs);
  impl_->socket.bind(kZapAddress);
  impl_->thread = std::thread([impl = impl_.get()] { impl->Run(); });
}

CurveGate::~CurveGate() {
  impl_->stopping = true;
  impl_->thread.join();
  impl_->socket.unbind(kZapAddress);  // at once: closing the socket frees the address only later
}

void CurveGate::Guard(zmq::socket_t& socket) const {
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, impl_->keys.own.secret_key);
  socket.set(zmq::sockopt::zap_domain, kDomain);
  // Without it libzmq admits every key when no handler answers.
  const int enforce = 1;
  if (zmq_setsockopt(socket.handle(), kEnforceZapDomain, &enforce, sizeof enforce) != 0) {
    throw Error("this libzmq cannot refuse unknown keys", {}, "ZMQ_ZAP_ENFORCE_DOMAIN needs libzmq 4.3");
  }
}

}  // namespace sgmd
