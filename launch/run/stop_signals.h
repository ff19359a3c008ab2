// What people and schedulers ask a launcher for by signals:
//
//   SIGTERM, any number of them; the first SIGINT   the run ends in order
//   a second SIGINT; SIGQUIT                        its processes are killed
//   SIGHUP, SIGPIPE                                 nothing: it goes on without its terminal
#pragma once

namespace sgmd {

/// From now on the signals above are counted, from 0, in place of ending the process, and the last two ignored.
void CountStopSignals();
/// How many asked for an end of either kind.
int StopSignals();
/// Whether the processes are to be killed.
bool KillRequested();

}  // namespace sgmd
