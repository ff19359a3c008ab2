#include "launch/run/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include "common/config/run_folder.h"
#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::size_t kLastLines = 20;

// What a line says of an error, of level E (common/log) or as RunGuarded prints it; nothing of any other line.
std::string ErrorIn(const std::string& line) {
  constexpr std::size_t kTime = std::string_view("2026-11-24 21:03:11.042").size();
  const std::size_t level = line.find(" E "), said = line.find("error: ");
  if (level <= kTime && line[0] >= '0' && line[0] <= '9') return line.substr(level + 3);
  return said == std::string::npos ? "" : line.substr(said + 7);
}

// Between fork and exec: only async-signal-safe calls.
[[noreturn]] void BecomeChild(pid_t parent, int output, char* const* arguments, char* const* environment) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent died before the line above took effect
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  for (const int signal : {SIGINT, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_DFL);  // where this process ignores them
  // Held back until it listens (common/signals): before that they would end it.
  sigset_t held;
  ::sigemptyset(&held);
  for (const int signal : {SIGTERM, SIGUSR1}) ::sigaddset(&held, signal);
  ::sigprocmask(SIG_SETMASK, &held, nullptr);
  ::execve(arguments[0], arguments, environment);
  const char* text = ::strerror(errno);
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, ::strlen(text));
  ::_exit(127);
}

// This process' environment with `env` over it, as NAME=value.
std::vector<std::string> EnvironmentWith(const std::map<std::string, std::string>& env) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!env.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [name, value] : env) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

std::string ExitReport::Reason() const {
  return signal != 0 ? StrCat("signal ", signal, " (", ::strsignal(signal), ")") : StrCat("exit code ", code);
}

std::string ExitReport::Cause() const {
  for (auto line = last_lines.rbegin(); line != last_lines.rend(); ++line) {
    if (std::string error = ErrorIn(*line); !error.empty()) return error;
  }
  return Reason();
}

std::string ExitReport::Summary() const {
  const std::string reason = Reason(), cause = Cause();
  return cause == reason ? reason : reason + ": " + cause;
}

Supervisor::Supervisor(std::filesystem::path logs, LineHandler on_line)
    : logs_(std::move(logs)), on_line_(std::move(on_line)) {
  std::filesystem::create_directories(logs_);
}

Supervisor::~Supervisor() { StopAll(std::chrono::milliseconds(0)); }

void Supervisor::Start(const std::string& name, const std::vector<std::string>& command,
                       const std::map<std::string, std::string>& env) {
  if (children_.contains(name)) throw Error("process " + name + " is already running");
  if (::access(command.front().c_str(), X_OK) != 0)
    ThrowErrno("cannot execute", command.front(), "is the build complete?");
  Child child;
  child.log = std::make_unique<LogFile>(logs_ / (FileNameOf(name) + ".log"));
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) ThrowErrno("cannot make a pipe for", name);
  std::vector<std::string> words = command, variables = EnvironmentWith(env);
  const std::vector<char*> arguments = Pointers(words), environment = Pointers(variables);
  const pid_t self = ::getpid();
  child.pid = ::fork();
  if (child.pid < 0) ThrowErrno("cannot fork for", name);
  if (child.pid == 0) BecomeChild(self, pipe_ends[1], arguments.data(), environment.data());
  ::setpgid(child.pid, child.pid);  // here too: a signal to the group may come before the child has run its own line
  ::close(pipe_ends[1]);
  child.output = pipe_ends[0];
  ::fcntl(child.output, F_SETFL, O_NONBLOCK);
  child.pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0));
  if (child.pidfd < 0) ThrowErrno("cannot watch", name);
  children_.emplace(name, std::move(child));
}

void Supervisor::ReadOutput(const std::string& name, Child& child) {
  if (child.output < 0) return;
  char block[65536];
  ssize_t size = 0;
  while ((size = ::read(child.output, block, sizeof block)) > 0) {
    child.log->Write({block, static_cast<std::size_t>(size)});
    child.partial.append(block, static_cast<std::size_t>(size));
    for (std::size_t end = 0; (end = child.partial.find('\n')) != std::string::npos; child.partial.erase(0, end + 1)) {
      const std::string line = child.partial.substr(0, end);
      child.last_lines.push_back(line);
      if (child.last_lines.size() > kLastLines) child.last_lines.pop_front();
      if (!ErrorIn(line).empty()) child.last_error = line;
      on_line_(name, line);
    }
  }
  if (size == 0) {  // end of file: a closed pipe would wake every poll from here on
    ::close(child.output);
    child.output = -1;
  }
}

std::optional<ExitReport> Supervisor::Reap(const std::string& name, Child& child) {
  int status = 0;
  if (::waitpid(child.pid, &status, WNOHANG) != child.pid) return {};
  ReadOutput(name, child);
  if (!child.partial.empty()) {
    child.last_lines.push_back(child.partial);
    on_line_(name, child.partial);
  }
  ExitReport report;
  report.name = name;
  report.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  report.code = report.signal != 0 ? 128 + report.signal : WEXITSTATUS(status);
  report.last_lines.assign(child.last_lines.begin(), child.last_lines.end());
  if (!child.last_error.empty() && std::ranges::find(report.last_lines, child.last_error) == report.last_lines.end())
    report.last_lines.insert(report.last_lines.begin(), child.last_error);
  for (const int fd : {child.pidfd, child.output}) {
    if (fd >= 0) ::close(fd);
  }
  return report;
}

std::vector<ExitReport> Supervisor::Poll(std::chrono::milliseconds timeout, int extra_fd) {
  std::vector<pollfd> watched;
  for (const auto& [name, child] : children_) {
    watched.push_back({child.pidfd, POLLIN, 0});
    watched.push_back({child.output, POLLIN, 0});  // negative once closed: ignored
  }
  if (extra_fd >= 0) watched.push_back({extra_fd, POLLIN, 0});
  ::poll(watched.data(), watched.size(), static_cast<int>(timeout.count()));  // EINTR: the caller looks at its signals
  std::vector<ExitReport> ended;
  for (auto it = children_.begin(); it != children_.end();) {
    ReadOutput(it->first, it->second);
    if (auto report = Reap(it->first, it->second)) {
      ended.push_back(std::move(*report));
      it = children_.erase(it);
    } else {
      ++it;
    }
  }
  return ended;
}

void Supervisor::Signal(const std::string& name, int signal) {
  const auto it = children_.find(name);
  if (it != children_.end()) ::kill(-it->second.pid, signal);
}

void Supervisor::SignalAll(int signal) {
  for (const auto& [name, child] : children_) ::kill(-child.pid, signal);
}

void Supervisor::StopAll(std::chrono::milliseconds grace) {
  SignalAll(SIGINT);
  const auto deadline = std::chrono::steady_clock::now() + grace;
  while (!children_.empty() && std::chrono::steady_clock::now() < deadline) Poll(std::chrono::milliseconds(50));
  SignalAll(SIGKILL);
  while (!children_.empty()) Poll(std::chrono::milliseconds(50));
}

std::vector<std::string> Supervisor::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, child] : children_) names.push_back(name);
  return names;
}

}  // namespace sgmd
