// How the run goes, in JSON for whoever asks and in words at its end.
#pragma once

#include <cstdint>
#include <string>

#include "common/config/topology.h"
#include "nodes/broker/members.h"
#include "nodes/broker/teacher_service.h"

namespace sgmd {

/// A JSON object: state, step, steps, scalars (the latest metrics of the trained roles), cache, anchors, in_flight and
/// queued (requests for teachers), nodes (name, alive, silent_seconds, progress, scalars). `state`: "running",
/// "draining" or "replay".
std::string StatusText(const std::string& state, std::int64_t steps, const Members& members,
                       const TeacherService& teachers);

/// Work of the trained roles, forward-equivalents since the start.
struct TrainedWork {
  double generator = 0, fake_score = 0;
};

void LogSummary(const LaunchPlan& plan, const TeacherService& teachers, const TrainedWork& work,
                std::int64_t malformed_messages);

}  // namespace sgmd
