// From inside a signal handler: no allocation, no lock, no stdio. The thread that SIGUSR1 came to asks the others by
// tgkill, one after the other, so that what they write does not mix.
#include "common/signals/stacks.h"

#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>

namespace sgmd {

namespace {

constexpr int kFrames = 64, kMillisecondsOfAll = 500, kMillisecondsToBegin = 50;
std::atomic<bool> writing{false};
std::atomic<int> asked{0};  // the thread whose turn it is; negative: it writes; 0: it is done

void Write(const char* text) {
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, std::strlen(text));
}

int ThisThread() { return static_cast<int>(::syscall(SYS_gettid)); }

void WriteNumber(int number) {
  char digits[12];
  char* at = digits + sizeof digits - 1;
  *at = '\0';
  for (; at == digits + sizeof digits - 1 || number > 0; number /= 10) *--at = static_cast<char>('0' + number % 10);
  Write(at);
}

// "/proc/self/task/<thread>/comm", with its line end.
void WriteName(int thread) {
  char path[48] = "/proc/self/task/", digits[12];
  int size = 0;
  for (int rest = thread; rest > 0; rest /= 10) digits[size++] = static_cast<char>('0' + rest % 10);
  char* end = path + std::strlen(path);
  while (size > 0) *end++ = digits[--size];
  std::strcpy(end, "/comm");
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  char name[32] = "?\n";
  if (fd >= 0) {
    const ssize_t read = ::read(fd, name, sizeof name - 1);
    if (read > 0) name[read] = '\0';
    ::close(fd);
  }
  Write(name);
}

void WriteOwnStack() {
  Write("stack of thread ");
  WriteNumber(ThisThread());
  Write(", ");
  WriteName(ThisThread());
  void* frames[kFrames];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, kFrames), STDERR_FILENO);
}

// Milliseconds that it waited for the thread to write its stack.
int Ask(int thread) {
  asked = thread;
  if (::syscall(SYS_tgkill, ::getpid(), thread, SIGUSR1) != 0) return 0;  // it has ended
  int waited = 0;
  for (; asked != 0 && waited < (asked > 0 ? kMillisecondsToBegin : kMillisecondsOfAll); ++waited) {
    const timespec millisecond{0, 1000000};
    ::nanosleep(&millisecond, nullptr);
  }
  int silent = thread;
  if (!asked.compare_exchange_strong(silent, 0)) return waited;
  Write("thread ");
  WriteNumber(thread);
  Write(" takes no signals: ");
  WriteName(thread);
  return waited;
}

void AskOthers() {
  const int folder = ::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  alignas(dirent64) char entries[4096];
  int left = kMillisecondsOfAll;
  long size = 0;
  while (left > 0 && (size = ::syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0) {
    for (long at = 0; at < size && left > 0;) {
      const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      at += entry->d_reclen;
      int thread = 0;
      for (const char* c = entry->d_name; *c >= '0' && *c <= '9'; ++c) thread = 10 * thread + (*c - '0');
      if (thread > 0 && thread != ThisThread()) left -= Ask(thread);
    }
  }
  ::close(folder);
}

void WriteAllStacks() {
  if (writing.exchange(true)) return;
  WriteOwnStack();
  AskOthers();
  Write("end of the stacks\n");
  writing = false;
}

void OnRequest(int, siginfo_t* info, void*) {
  const int problem = errno;
  if (info->si_code != SI_TKILL) {
    WriteAllStacks();
  } else if (int self = ThisThread(); asked.compare_exchange_strong(self, -self)) {
    WriteOwnStack();
    asked = 0;
  }  // else its turn is over: the signal came late
  errno = problem;
}

}  // namespace

void WriteStacksOnRequest() {
  void* frame = nullptr;
  ::backtrace(&frame, 1);  // loads what it needs now, not in a handler
  struct sigaction action {};
  action.sa_sigaction = OnRequest;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  ::sigaction(SIGUSR1, &action, nullptr);
}

}  // namespace sgmd
