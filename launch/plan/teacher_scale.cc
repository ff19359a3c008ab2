#include "launch/plan/teacher_scale.h"

#include <algorithm>
#include <optional>
#include <sstream>

#include "common/config/device.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr std::int64_t kMost = 4096;

// What <run>/teachers holds.
struct Scaled {
  std::int64_t count = 0;        // that `scale` said
  std::int64_t of_topology = 0;  // that the topology said then
};

std::optional<Scaled> Read(const RunFolder& folder) {
  if (!std::filesystem::exists(folder.Teachers())) return {};
  Scaled scaled;
  std::istringstream text(ReadFile(folder.Teachers()));
  if (text >> scaled.count >> scaled.of_topology && scaled.count >= 1 && scaled.count <= kMost) return scaled;
  throw Error("this file does not hold the number of teachers that `scale` said", folder.Teachers().string(),
              "remove it: the topology's number is taken then");
}

// How many teachers the GPUs are for; nothing where they run on the CPU.
std::optional<std::int64_t> GpuPlaces(const Topology::Teacher& teacher) {
  const auto is_cpu = [](const std::string& device) { return device == "cpu"; };
  if (teacher.devices.empty()) return is_cpu(teacher.device) ? std::nullopt : std::optional<std::int64_t>(1);
  if (std::ranges::any_of(teacher.devices, is_cpu)) return {};
  return static_cast<std::int64_t>(teacher.devices.size()) / teacher.ranks;
}

}  // namespace

void RememberTeachers(const LaunchPlan& plan, std::int64_t count) {
  const RunFolder folder{plan.topology.run.folder};
  const auto before = Read(folder);
  const std::int64_t started_with = plan.topology.teacher.replicas;
  const std::int64_t of_topology = before && before->count == started_with ? before->of_topology : started_with;
  WriteFileAtomically(folder.Teachers(), StrCat(count, " ", of_topology, "\n"));
}

void ForgetTeachers(const std::filesystem::path& run_folder) {
  std::filesystem::remove(RunFolder{run_folder}.Teachers());
}

std::string ApplyRememberedTeachers(LaunchPlan& plan, bool overridden) {
  const RunFolder folder{plan.topology.run.folder};
  const auto scaled = Read(folder);
  std::int64_t& replicas = plan.topology.teacher.replicas;
  if (!scaled || replicas == scaled->count) return "";
  if (!overridden && replicas == scaled->of_topology) {
    const std::string text = StrCat(scaled->count, " teachers, as `scale` said; the topology says ", replicas,
                                    " (--set teacher.replicas=", replicas, " takes that)");
    replicas = scaled->count;
    return text;
  }
  return StrCat(replicas, " teachers, as ", overridden ? "--set says" : "the topology says by now",
                "; `scale` had said ", scaled->count);
}

void RequireTeacherCount(const LaunchPlan& plan, std::int64_t count) {
  if (count < 1 || count > kMost) {
    throw Error(StrCat("a run has from 1 to ", kMost, " teachers, not ", count), {}, "such as teacher=3");
  }
  const Topology::Teacher& teacher = plan.topology.teacher;
  const auto places = GpuPlaces(teacher);
  if (!places || count <= std::max(*places, teacher.replicas)) return;
  throw Error(StrCat("there are GPUs for ", std::max(*places, teacher.replicas), " teachers, not for ", count),
              plan.topology.run.folder.string(),
              "[teacher] devices names those of each; a GPU that is to hold two is named twice");
}

}  // namespace sgmd
