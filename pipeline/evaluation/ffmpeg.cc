#include "pipeline/evaluation/ffmpeg.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error/error.h"

extern char** environ;

namespace sgmd {
namespace {

void CloseFd(int* fd) {
  if (*fd >= 0) ::close(*fd);
  *fd = -1;
}

// Signals as a program expects them, whatever this process has blocked or ignores.
void DefaultSignals(posix_spawnattr_t* attributes) {
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(attributes, &none);
  ::posix_spawnattr_setsigdefault(attributes, &all);
  ::posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

// Starts `command` with `own` as the descriptor `as` and `messages` as stderr; the other of stdin and stdout is
// /dev/null.
int Spawn(const std::vector<std::string>& command, int own, int as, int messages, pid_t* pid) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  DefaultSignals(&attributes);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, own, as);
  ::posix_spawn_file_actions_adddup2(&actions, messages, STDERR_FILENO);
  const int code = ::posix_spawnp(pid, argv[0], &actions, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return code;
}

}  // namespace

Ffmpeg::Ffmpeg(Stream stream, const std::vector<std::string>& arguments, std::string about) : about_(std::move(about)) {
  std::vector<std::string> command{"ffmpeg", "-hide_banner", "-loglevel", "error"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) ThrowErrno("cannot make a socket pair", about_);
  stream_ = ends[0];
  messages_ = ::memfd_create("ffmpeg-messages", MFD_CLOEXEC);
  const int code = Spawn(command, ends[1], stream == Stream::kInto ? STDIN_FILENO : STDOUT_FILENO, messages_, &pid_);
  ::close(ends[1]);
  if (code == 0) return;
  pid_ = -1;
  CloseFd(&stream_);
  CloseFd(&messages_);
  throw Error(StrCat("cannot start ffmpeg: ", std::strerror(code)), about_, "install ffmpeg, or put it on PATH");
}

Ffmpeg::~Ffmpeg() { Kill(); }

void Ffmpeg::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(stream_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) Fail(StrCat("ffmpeg stopped reading (", std::strerror(errno), ")"));
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

std::size_t Ffmpeg::Read(std::span<std::byte> bytes) {
  while (true) {
    const ssize_t got = ::recv(stream_, bytes.data(), bytes.size(), 0);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) Fail(StrCat("cannot read from ffmpeg (", std::strerror(errno), ")"));
  }
}

void Ffmpeg::Close() {
  CloseFd(&stream_);
  const int status = Wait();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return CloseFd(&messages_);
  Fail(WIFEXITED(status) ? StrCat("ffmpeg failed with status ", WEXITSTATUS(status))
                         : StrCat("ffmpeg was ended by signal ", WTERMSIG(status)));
}

void Ffmpeg::Kill() {
  CloseFd(&stream_);
  if (pid_ > 0) ::kill(pid_, SIGKILL);
  Wait();
  CloseFd(&messages_);
}

int Ffmpeg::Wait() {
  int status = 0;
  while (pid_ > 0 && ::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
  return status;
}

void Ffmpeg::Fail(const std::string& what) {
  CloseFd(&stream_);
  Wait();
  std::string text(4096, '\0');  // the first words name the cause; the rest follows from it
  const ssize_t size = ::pread(messages_, text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  CloseFd(&messages_);
  throw Error(text.empty() ? what : what + ", saying:\n" + text, about_, "is the disk full, or the format unknown?");
}

}  // namespace sgmd
