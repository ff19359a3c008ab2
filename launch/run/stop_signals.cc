#include "launch/run/stop_signals.h"

#include <csignal>

namespace sgmd {
namespace {

volatile std::sig_atomic_t signals_seen = 0;

}  // namespace

void CountStopSignals() {
  signals_seen = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { signals_seen = signals_seen + 1; };
  ::sigaddset(&action.sa_mask, SIGINT);  // one must not come in the middle of counting the other
  ::sigaddset(&action.sa_mask, SIGTERM);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

int StopSignals() { return signals_seen; }

}  // namespace sgmd
