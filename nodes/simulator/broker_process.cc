#include "nodes/simulator/broker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "common/config/run_folder.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr std::size_t kLastWords = 600;  // bytes of the log that an error shows
constexpr std::chrono::milliseconds kGlance{5};

// Between fork and exec: only async-signal-safe calls. Ctrl-C is for the simulator alone, which ends its broker.
[[noreturn]] void BecomeBroker(pid_t parent, int log, char* const* arguments) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent died before the line above took effect
  ::setpgid(0, 0);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv(arguments[0], arguments);
  const char* text = ::strerror(errno);
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, ::strlen(text));
  ::_exit(127);
}

}  // namespace

BrokerProcess::BrokerProcess(std::filesystem::path program, const std::filesystem::path& run_folder,
                             std::uint64_t epoch)
    : log_(RunFolder{run_folder}.Logs() / "broker.log") {
  if (program.empty()) program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sgmd-broker";
  if (::access(program.c_str(), X_OK) != 0) ThrowErrno("cannot execute", program.string(), "is the build complete?");
  std::vector<std::string> command{program, "--run", run_folder, "--epoch", std::to_string(epoch)};
  std::vector<char*> arguments;
  for (std::string& part : command) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  const int log = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (log < 0) ThrowErrno("cannot write", log_.string());
  const pid_t self = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) BecomeBroker(self, log, arguments.data());
  ::close(log);
  if (pid_ < 0) ThrowErrno("cannot fork for", program.string());
}

BrokerProcess::~BrokerProcess() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

// It stays a zombie until the destructor, so that its number cannot become another's.
bool BrokerProcess::HasEnded() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
}

void BrokerProcess::RequireAlive() const {
  if (!HasEnded()) return;
  std::string log = ReadFile(log_);
  while (log.ends_with('\n')) log.pop_back();
  throw Error("the broker has ended; the end of its log:\n" +
              log.substr(log.size() - std::min(log.size(), kLastWords)));
}

bool BrokerProcess::EndsWithin(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!HasEnded() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(kGlance);
  return HasEnded();
}

// In nanoseconds, where /proc/<pid>/stat counts ticks of 10 ms.
double BrokerProcess::CpuSeconds() const {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &time) != 0) {
    throw Error("cannot read the CPU time of the broker");
  }
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::int64_t BrokerProcess::ResidentBytes() const { return StatusBytes("VmRSS:"); }
std::int64_t BrokerProcess::PeakBytes() const { return StatusBytes("VmHWM:"); }

// A line such as "VmHWM:     1234 kB".
std::int64_t BrokerProcess::StatusBytes(const char* field) const {
  std::ifstream file(StrCat("/proc/", pid_, "/status"));
  for (std::string word; file >> word;) {
    std::int64_t kib = 0;
    if (word == field && file >> kib) return kib * 1024;
  }
  throw Error(StrCat("no ", field, " in /proc/", pid_, "/status"));
}

}  // namespace sgmd
