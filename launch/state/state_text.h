// How a run stands, for people.
#pragma once

#include <string>

#include "launch/state/run_state.h"

namespace sgmd {

/// Several lines: the state, and of a live run its figures and processes.
std::string StateTable(const RunState& state);

/// One line, such as "running, step 12 of 400, 0.35 s/step, ETA 2m 16s".
std::string StateLine(const RunState& state);

/// "0.35 s/step, ETA 2m 16s" of a live run; empty where the broker does not know its pace yet.
std::string PaceText(const RunState& state);

}  // namespace sgmd
