#include "common/transport/server.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <regex>

#include "common/error/error.h"
#include "common/log/limited_log.h"
#include "common/trace/trace.h"
#include "common/transport/socket.h"

namespace sgmd {
namespace {

constexpr std::string_view kIpc = "ipc://";

// Whether a process accepts connections at this path of a unix socket.
bool HasListener(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  path.copy(address.sun_path, path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool accepted = fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (fd >= 0) ::close(fd);
  return accepted;
}

// ZeroMQ silently takes over an ipc path that another process serves.
void PrepareIpc(const std::string& endpoint) {
  const std::filesystem::path path = endpoint.substr(kIpc.size());
  if (HasListener(path)) throw Error("the endpoint is in use by another process", endpoint, "is the run already up?");
  const std::filesystem::path folder = path.parent_path();
  if (folder.empty() || std::filesystem::exists(folder)) return;
  std::filesystem::create_directories(folder.parent_path());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) ThrowErrno("cannot make", folder.string());
}

// Others of this machine could connect otherwise, and in /tmp put a folder of theirs where ours is to be.
void ProtectIpc(const std::string& endpoint) {
  const std::filesystem::path path = endpoint.substr(kIpc.size());
  struct stat folder {};
  if (path.has_parent_path() && ::stat(path.parent_path().c_str(), &folder) == 0 && folder.st_uid != ::geteuid())
    throw Error("the folder of the endpoint belongs to another user", endpoint, "remove it, or name another endpoint");
  if (::chmod(path.c_str(), 0600) != 0) ThrowErrno("cannot protect", path.string());
}

// The endpoint with a number in place of a host's name, as ZeroMQ needs it to bind.
std::string ToBind(const std::string& endpoint) {
  static const std::regex named("tcp://([A-Za-z][A-Za-z0-9.-]*)(:[0-9]+)");
  std::smatch match;
  if (!std::regex_match(endpoint, match, named)) return endpoint;
  const std::string name = match[1];
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_INET;
  if (const int status = ::getaddrinfo(name.c_str(), nullptr, &hints, &found); status != 0) {
    throw Error(StrCat("no address of ", name, " is known: ", ::gai_strerror(status)), endpoint);
  }
  const in_addr address = reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_addr;
  ::freeaddrinfo(found);
  char number[INET_ADDRSTRLEN];
  ::inet_ntop(AF_INET, &address, number, sizeof number);
  if (ntohl(address.s_addr) >> 24 == IN_LOOPBACKNET && name != "localhost") {
    throw Error(StrCat(name, " is ", number, " here, where no other host reaches it"), endpoint,
                "write the address that others reach");
  }
  return StrCat("tcp://", number, match[2].str());
}

std::string BindHint(int error) {
  if (error == EADDRINUSE) return "another process uses it; is the run already up?";
  if (error == EADDRNOTAVAIL)
    return "this host does not have this address; give that of the broker's host, the first of hosts";
  return "";
}

MessageFaults<Server::Incoming> ReceiveFaults(Channel channel) {
  using Faults = MessageFaults<Server::Incoming>;
  return channel == Channel::kData ? Faults("data.receive") : Faults("control.receive");
}

}  // namespace

struct Server::Impl {
  std::string endpoint;
  zmq::socket_t socket;
  MessageFaults<Outgoing> send_faults;
  MessageFaults<Incoming> receive_faults;
  std::deque<MessageFaults<Incoming>::Due> arrived;  // past the failpoints, not yet taken
  LimitedLog log;
  std::int64_t malformed = 0;

  void Malformed(const std::string& user, const std::string& why) {
    ++malformed;
    log.Warn("dropped a malformed message", user.empty() ? "" : " of " + user, " on ", endpoint, ": ", why);
  }
};

Server::Server(const std::string& endpoint, const Gate* gate, std::int64_t max_frame_bytes, Channel channel)
    : impl_(new Impl{endpoint,
                     MakeSocket(zmq::socket_type::router, max_frame_bytes),
                     SendFaults(channel),
                     ReceiveFaults(channel),
                     {},
                     {}}) {
  impl_->socket.set(zmq::sockopt::router_mandatory, true);
  if (gate != nullptr) gate->Guard(impl_->socket);
  if (endpoint.starts_with(kIpc)) PrepareIpc(endpoint);
  try {
    impl_->socket.bind(ToBind(endpoint));
  } catch (const zmq::error_t& error) {
    throw Error(StrCat("cannot bind: ", error.what()), endpoint, BindHint(error.num()));
  }
  if (endpoint.starts_with(kIpc)) ProtectIpc(endpoint);
}

// The IO thread closes a listener in its own time, and with it the file of an ipc endpoint. Waiting for it here keeps
// it from closing what a later Server has bound meanwhile. Connections stay open for what is still to be sent.
Server::~Server() {
  try {
    const std::string address = StrCat("inproc://closing-", this);
    zmq::socket_t monitor = MakeSocket(zmq::socket_type::pair);
    monitor.set(zmq::sockopt::rcvtimeo, 1000);
    if (zmq_socket_monitor(impl_->socket.handle(), address.c_str(), ZMQ_EVENT_CLOSED) != 0) return;
    monitor.connect(address);
    impl_->socket.unbind(impl_->socket.get(zmq::sockopt::last_endpoint));
    zmq::message_t event;
    if (!monitor.recv(event)) LogDebug("the listener of ", impl_->endpoint, " is slow to close");
  } catch (const zmq::error_t& error) {
    LogDebug("closing ", impl_->endpoint, ": ", error.what());
  }
}

bool Server::Send(const std::string& pipe, const Envelope& envelope) {
  return SendEnvelope(impl_->socket, pipe, envelope, impl_->send_faults);
}

std::optional<Server::Incoming> Server::TryReceive() {
  while (true) {
    if (!impl_->arrived.empty()) {
      auto due = std::move(impl_->arrived.front());
      impl_->arrived.pop_front();
      if (!due.damaged) return std::move(due.message);
      impl_->Malformed(due.message.user, "a failpoint damaged it");
      continue;
    }
    auto raw = TryReceiveRaw(impl_->socket, /*has_pipe=*/true);
    if (!raw) return {};
    const trace::Span span("decode");
    try {
      Incoming in{raw->pipe, raw->user, DecodeEnvelope(raw->header.bytes, std::move(raw->tensors))};
      if (!failpoint::Any()) return in;
      const std::string_view kind = wire::EnumNameKind(in.envelope.kind);
      for (auto& due : impl_->receive_faults.Apply(std::move(in), kind)) impl_->arrived.push_back(std::move(due));
    } catch (const Error& error) {
      impl_->Malformed(raw->user, error.message());
    }
  }
}

std::int64_t Server::malformed() const { return impl_->malformed; }

void Server::Wait(const std::vector<Server*>& servers, std::chrono::milliseconds timeout, int event) {
  const trace::Span span("wait");
  std::vector<zmq::pollitem_t> items;
  for (Server* server : servers) items.push_back({server->impl_->socket.handle(), 0, ZMQ_POLLIN, 0});
  if (event >= 0) items.push_back({nullptr, event, ZMQ_POLLIN, 0});
  try {
    zmq::poll(items, timeout);
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;  // a signal: the caller looks at its flags
  }
}

}  // namespace sgmd
