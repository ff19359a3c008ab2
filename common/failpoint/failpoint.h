// Named places where a test makes something go wrong (places.h lists them, and so does `sgmd-launch failpoints`).
//
//   SGMD_FAILPOINTS="rule;rule..."      rule = place[.Kind][[process]]=action[(argument)][:P%][@N|@N+][!]
//
//   place      checkpoint.before_rename       one of places.h
//   .Kind      data.send.Gradient             of messages: only those of this kind (wire::Kind)
//   [process]  data.send[teacher.0]           only in this process; [teacher] means every teacher. The launcher is
//                                             [launch], other processes have the names of common/config/role.h
//   action     crash            SIGKILL to itself           drop          the message is not sent, or not seen
//              exit(N)          ends with this exit code    double        it comes twice
//              hang             the thread sleeps for ever  delay(ms)     it comes later, others overtake it
//              stop             SIGSTOP to itself           reorder       it changes places with the next one
//              sleep(ms)        the thread sleeps           corrupt       a byte of it is another one
//              error            throws Error                nan           the value is not a number
//              enospc, eio, emfile   the place fails so
//   :P%        happens with this probability, drawn from SGMD_FAILPOINTS_SEED (0), the process, the rule and the count
//              of its hits: the same process draws the same again
//   @N, @N+    only at the Nth hit of the rule in this process (from 1), or from the Nth on
//   !          once in all: with SGMD_FAILPOINTS_MARKS, a folder, in all processes and starts that share it; else in
//              this process
//
// Every rule counts its own hits. Of several rules that happen at once the first one counts. What happens is written to
// stderr: "failpoint: data.send.Gradient[generator]=drop at hit 3".
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/failpoint/places.h"

namespace sgmd::failpoint {

/// What the place is to do.
struct Effect {
  Action action;
  std::int64_t amount;  // of delay: milliseconds
};

/// Tells who this process is and reads SGMD_FAILPOINTS (InitLog calls it). Until then nothing happens anywhere. Throws
/// Error, naming the nearest, on a place, kind or action that does not exist or does not go together.
void SetProcess(std::string_view process);

namespace internal {
class Rules;
inline std::atomic<const Rules*> active{nullptr};  // what SetProcess has read; never freed
std::optional<Effect> SlowHit(std::size_t place, std::string_view kind);
bool SlowFails(std::size_t place);
}  // namespace internal

/// Whether any rule concerns this process.
inline bool Any() { return internal::active.load(std::memory_order_relaxed) != nullptr; }

/// What happens at this place now; crash, exit, hang, stop, sleep and error have then happened already (and of these
/// only sleep and stop return, as nothing). `kind`: wire::EnumNameKind of a message. Throws Error for `error`.
/// Without rules: one relaxed load and a branch (tests/bench/failpoint_bench.cc).
inline std::optional<Effect> Hit(Place place, std::string_view kind = {}) {
  if (!Any()) [[likely]]
    return {};
  return internal::SlowHit(place.index(), kind);
}

/// For a place that writes: true, with errno set, where it is to fail as the system would:
///   if (failpoint::Fails("events.write") || ::write(...) < 0) ThrowErrno(...)
inline bool Fails(Place place) {
  if (!Any()) [[likely]]
    return false;
  return internal::SlowFails(place.index());
}

/// All failpoints and their actions, for a person.
std::string Listing();

}  // namespace sgmd::failpoint
