// Exit codes of sgmd-launch up, replay and wait: how the run ended, for scripts and schedulers.
#pragma once

namespace sgmd {

inline constexpr int kExitFinished = 0;  // the last step is done and checkpointed
inline constexpr int kExitFailed = 1;
inline constexpr int kExitRefused = 2;  // nothing was started
// Ended in order before the last step; `up` goes on (EX_TEMPFAIL of sysexits.h).
inline constexpr int kExitDrained = 75;
inline constexpr int kExitTimeout = 124;  // of wait --timeout: the run goes on
inline constexpr int kExitKilled = 130;   // its processes were killed as a person asked

/// A run that ends so has a checkpoint of the step that it ended at.
constexpr bool EndedInOrder(int exit_code) { return exit_code == kExitFinished || exit_code == kExitDrained; }

}  // namespace sgmd
