// SIGINT and SIGTERM, counted: the first asks for an orderly end, the second for an immediate one.
#pragma once

namespace sgmd {

/// From now on both signals are counted, from 0, in place of ending the process.
void CountStopSignals();
int StopSignals();

}  // namespace sgmd
