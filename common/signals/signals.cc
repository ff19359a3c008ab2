#include "common/signals/signals.h"

#include <csignal>

#include "common/signals/stacks.h"

namespace sgmd {

namespace {

StopRequests requests;

void On(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

const StopRequests& ListenToSignals(Interrupt interrupt) {
  WriteStacksOnRequest();
  On(SIGTERM, [](int) { requests.in_order = true; });
  On(SIGINT, interrupt == Interrupt::kAsks ? [](int) { requests.now = true; } : SIG_DFL);
  sigset_t held;
  ::sigemptyset(&held);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) ::sigaddset(&held, signal);
  ::pthread_sigmask(SIG_UNBLOCK, &held, nullptr);
  return requests;
}

}  // namespace sgmd
