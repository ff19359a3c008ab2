#include "pipeline/text/tokenizer_client.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

using nlohmann::json;

// Between fork and exec: only async-signal-safe calls.
[[noreturn]] void BecomeTokenizer(pid_t parent, int channel, int complaints, char* const* arguments) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent died before the line above took effect
  ::dup2(channel, STDIN_FILENO);
  ::dup2(channel, STDOUT_FILENO);
  ::dup2(complaints, STDERR_FILENO);
  ::execv(arguments[0], arguments);
  const char* text = ::strerror(errno);
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, ::strlen(text));
  ::_exit(127);
}

std::string Reason(int status) {
  if (WIFSIGNALED(status)) return StrCat("signal ", WTERMSIG(status), " (", ::strsignal(WTERMSIG(status)), ")");
  return StrCat("exit code ", WEXITSTATUS(status));
}

}  // namespace

TokenizerClient::TokenizerClient(const std::filesystem::path& model, std::filesystem::path program)
    : program_(std::move(program)) {
  if (program_.empty()) program_ = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sgmd-tokenizer";
  if (::access(program_.c_str(), X_OK) != 0) ThrowErrno("cannot execute", program_.string(), "is the build complete?");
  Start(model);
  const json about = json::parse(Ask("{\"about\": true}\n"));
  model_ = about.at("model").get<std::string>();
  digest_ = Digest::FromHex(about.at("digest").get<std::string>());
}

TokenizerClient::~TokenizerClient() {
  for (const int fd : {channel_, complaints_}) {
    if (fd >= 0) ::close(fd);
  }
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void TokenizerClient::Start(const std::filesystem::path& model) {
  int ends[2];
  // A socket pair, not pipes: writing to a dead child is then an error (MSG_NOSIGNAL) and not a signal to the whole program.
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) ThrowErrno("cannot make a socket pair for", program_.string());
  channel_ = ends[0];
  complaints_ = ::memfd_create("sgmd-tokenizer-stderr", MFD_CLOEXEC);
  std::vector<std::string> command{program_.string(), "--model", model.string()};
  std::vector<char*> arguments;
  for (std::string& part : command) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  const pid_t self = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) BecomeTokenizer(self, ends[1], complaints_, arguments.data());
  ::close(ends[1]);
  if (pid_ < 0) ThrowErrno("cannot fork for", program_.string());
}

void TokenizerClient::FailDead() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  char words[4096];
  const ssize_t size = ::pread(complaints_, words, sizeof words, 0);
  std::string text(words, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  while (text.ends_with('\n')) text.pop_back();
  throw Error(StrCat("sgmd-tokenizer ended with ", Reason(status), text.empty() ? "" : ":\n  ", text), program_.string());
}

std::string TokenizerClient::Ask(const std::string& request) {
  if (pid_ < 0) throw Error("sgmd-tokenizer has died before", program_.string());
  for (std::string_view rest = request; !rest.empty();) {
    const ssize_t sent = ::send(channel_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) FailDead();
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
  std::size_t end = 0;
  while ((end = partial_.find('\n')) == std::string::npos) {
    char block[65536];
    const ssize_t size = ::recv(channel_, block, sizeof block, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) FailDead();
    partial_.append(block, static_cast<std::size_t>(size));
  }
  std::string line = partial_.substr(0, end);
  partial_.erase(0, end + 1);
  return line;
}

std::vector<std::int64_t> TokenizerClient::Encode(std::string_view text, std::int64_t max_length) {
  const json request{{"text", std::string(text)}, {"max_length", max_length}};
  const json answer = json::parse(Ask(request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"));
  if (answer.contains("error")) throw Error("sgmd-tokenizer refused a prompt: " + answer["error"].get<std::string>(), model_.string());
  return answer.at("ids").get<std::vector<std::int64_t>>();
}

}  // namespace sgmd
