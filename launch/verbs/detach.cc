#include "launch/verbs/detach.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <thread>

#include "common/error/error.h"
#include "launch/state/run_state.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{100};

std::filesystem::path LogOf(const std::filesystem::path& run_folder) {
  return RunFolder{run_folder}.Logs() / "launch.log";
}

void RedirectTo(const char* path, int fd) {
  const int file = ::open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) ThrowErrno("cannot open", path);
  ::dup2(file, fd);
  ::close(file);
}

// What Detachment::Leave has said.
struct Left {
  std::uintmax_t log_size = 0;  // when it left
  bool head = true;
  std::filesystem::path run_folder;
};

// Nothing where the process ended before it left.
std::optional<Left> ReadLeft(int pipe) {
  std::string text;
  char block[4096];
  for (ssize_t size; (size = ::read(pipe, block, sizeof block)) > 0;)
    text.append(block, static_cast<std::size_t>(size));
  Left left;
  std::string folder;
  std::istringstream words(text);
  if (!(words >> left.log_size >> left.head) || !std::getline(words >> std::ws, folder)) return {};
  left.run_folder = folder;
  return left;
}

int ExitCodeOf(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

// The exit code of the process, which has ended, after what it has logged.
int Ended(const Left& left, int status) {
  std::ifstream log(LogOf(left.run_folder));
  log.seekg(static_cast<std::streamoff>(left.log_size));
  std::cerr << log.rdbuf();
  return ExitCodeOf(status);
}

int WaitUntilUp(const Left& left, pid_t process) {
  RunWatch watch(left.run_folder);
  int status = 0;
  while (left.head && watch.Now().live.is_null()) {
    if (::waitpid(process, &status, WNOHANG) == process) return Ended(left, status);
    std::this_thread::sleep_for(kPoll);
  }
  const std::string folder = left.run_folder.string();
  std::cout << "the run is up in the background, process " << process << "\n  watch it  sgmd-launch status " << folder
            << " --watch\n  its logs  sgmd-launch logs " << folder << " -f\n  end it    sgmd-launch down " << folder
            << "\n";
  return 0;
}

}  // namespace

void Detachment::Leave(const std::filesystem::path& run_folder, bool head) {
  const auto log = LogOf(run_folder);
  std::filesystem::create_directories(log.parent_path());
  std::error_code none;
  const std::uintmax_t size = std::filesystem::exists(log) ? std::filesystem::file_size(log, none) : 0;
  RedirectTo(log.c_str(), STDERR_FILENO);
  const std::string text = StrCat(size, " ", head, " ", run_folder.string(), "\n");
  if (::write(said_, text.data(), text.size()) < 0) ThrowErrno("cannot say that the run is up to", "the terminal");
  ::close(said_);
}

int Detached(const std::function<int(Detachment&)>& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) ThrowErrno("cannot make", "a pipe");
  const pid_t process = ::fork();
  if (process < 0) ThrowErrno("cannot start", "a process in the background");
  if (process == 0) {
    ::close(ends[0]);
    ::setsid();
    RedirectTo("/dev/null", STDIN_FILENO);
    RedirectTo("/dev/null", STDOUT_FILENO);
    Detachment detachment(ends[1]);
    return body(detachment);
  }
  ::close(ends[1]);
  const auto left = ReadLeft(ends[0]);
  ::close(ends[0]);
  if (left) return WaitUntilUp(*left, process);
  int status = 0;
  ::waitpid(process, &status, 0);
  return ExitCodeOf(status);
}

}  // namespace sgmd
