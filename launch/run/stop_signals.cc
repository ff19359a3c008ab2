#include "launch/run/stop_signals.h"

#include <csignal>
#include <initializer_list>

namespace sgmd {
namespace {

volatile std::sig_atomic_t all = 0, interrupts = 0, quits = 0;

}  // namespace

void CountStopSignals() {
  all = 0;
  interrupts = 0;
  quits = 0;
  struct sigaction action {};
  action.sa_handler = [](int signal) {
    all = all + 1;
    if (signal == SIGINT) interrupts = interrupts + 1;
    if (signal == SIGQUIT) quits = quits + 1;
  };
  const int counted[] = {SIGINT, SIGTERM, SIGQUIT};
  for (const int signal : counted) ::sigaddset(&action.sa_mask, signal);  // none in the middle of counting another
  for (const int signal : counted) ::sigaction(signal, &action, nullptr);
  for (const int signal : {SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
}

int StopSignals() { return all; }

bool KillRequested() { return interrupts > 1 || quits > 0; }

}  // namespace sgmd
