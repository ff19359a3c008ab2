// A teacher process: scores what it is leased. Stateless; joins, leaves and dies at any time.
#pragma once

#include "nodes/ring/join.h"

namespace sgmd {

/// Until the broker closes the run or `stop` becomes true by a signal (then it leaves first). Returns the exit code.
int RunTeacher(const RingNode& node, const volatile bool& stop);

}  // namespace sgmd
