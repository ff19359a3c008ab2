// How the run goes, in JSON for whoever asks and in words at its end.
#pragma once

#include <cstdint>
#include <string>

#include "common/config/topology.h"
#include "common/metrics/pace.h"
#include "nodes/broker/members.h"
#include "nodes/broker/teacher_service.h"

namespace sgmd {

/// What the run is doing: "running", "draining" or "replay"; how many steps it has, and how fast they are done.
struct RunProgress {
  std::string state;
  std::int64_t steps = 0;
  Pace pace;  // marked with the steps that are done
};

/// A JSON object: state; step, steps; pace (seconds_per_step, eta_seconds; absent before a second step); waiting_for
/// (WaitingFor); scalars (the latest metrics of the trained roles); cache; anchors; in_flight and queued (requests for
/// teachers); dispatcher (leases that were redispatched, speculated: given to a second teacher because the first is
/// slow, answers that were dropped); malformed (messages); nodes (name, state as Members spells it, stalled: stalled or
/// silent, alive: joined and neither, silent_seconds, idle_seconds: since its count of work moved, progress, scalars).
std::string StatusText(const RunProgress& run, const Members& members, const TeacherService& teachers,
                       std::int64_t malformed_messages);

/// A sentence about what keeps the run from going on, when nobody has done any work for some seconds: whom it waits
/// for, and since when. Empty when it goes on.
std::string WaitingFor(const Members& members, const TeacherService& teachers);

/// Work of the trained roles, forward-equivalents of the teacher's network since the start.
struct TrainedWork {
  double generator = 0, fake_score = 0;
};

void LogSummary(const LaunchPlan& plan, const TeacherService& teachers, const TrainedWork& work,
                std::int64_t malformed_messages);

}  // namespace sgmd
