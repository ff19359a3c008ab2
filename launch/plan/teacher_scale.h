// How many teachers a run has, where `scale` has said another number than its topology.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/config/topology.h"

namespace sgmd {

/// Remembers in <run>/teachers that the run of `plan`, as it was started, is to have `count` teachers from now on, also
/// in its later starts.
void RememberTeachers(const LaunchPlan& plan, std::int64_t count);

/// Gives the plan as many teachers as `scale` said last. A topology that says another number by now than it did then
/// wins, and so does --set teacher.replicas (`overridden`). Returns what was decided in a sentence, empty where `scale`
/// never said anything.
std::string ApplyRememberedTeachers(LaunchPlan& plan, bool overridden);
/// The topology's number is taken from now on.
void ForgetTeachers(const std::filesystem::path& run_folder);

/// Throws Error where the run cannot have `count` teachers: outside [1, 4096], or more than its GPUs, of which each
/// entry of [teacher] devices is one teacher's.
void RequireTeacherCount(const LaunchPlan& plan, std::int64_t count);

}  // namespace sgmd
