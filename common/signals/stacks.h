// The stacks of all threads of this process, on request from outside: what a hang looks like, without a debugger.
#pragma once

namespace sgmd {

/// From now on SIGUSR1 writes the stack of every thread to stderr, within about half a second, and the process goes on.
/// Names are mangled (c++filt reads them). A thread that takes no signals, as ZeroMQ's, is named without a stack.
void WriteStacksOnRequest();

}  // namespace sgmd
