#include "nodes/broker/status.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/config/role.h"
#include "common/log/log.h"
#include "nodes/broker/routes.h"

namespace sgmd {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN; a metric that became one is left out.
Json FiniteOnly(const std::map<std::string, double>& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) {
    if (std::isfinite(value)) json[name] = value;
  }
  return json;
}

Json CacheJson(const AnswerStore::Stats& s) {
  return {{"hits", s.hits},       {"misses", s.misses},
          {"entries", s.entries}, {"bytes", s.bytes},
          {"corrupt", s.corrupt}, {"evicted", s.evicted},
          {"problem", s.problem}, {"waiting_bytes", s.waiting_bytes},
          {"lost", s.lost},       {"hit_mb_per_s", s.HitMegabytesPerSecond()}};
}

}  // namespace

std::string StatusText(const std::string& state, std::int64_t steps, const Members& members,
                       const TeacherService& teachers) {
  Json nodes = Json::array(), scalars = Json::object();
  for (const auto& [name, member] : members.all()) {
    nodes.push_back({{"name", name},
                     {"alive", member.alive && member.joined},
                     {"silent_seconds", member.SilentSeconds()},
                     {"progress", member.progress},
                     {"scalars", FiniteOnly(member.metrics)}});
    if (!IsTeacher(name)) scalars.update(FiniteOnly(member.metrics));
  }
  const TeacherService::Counts& anchors = teachers.anchors();
  const Json status{{"state", state},
                    {"step", static_cast<std::int64_t>(scalars.value("step", 0.0))},
                    {"steps", steps},
                    {"scalars", scalars},
                    {"cache", CacheJson(teachers.stats())},
                    {"anchors", {{"asked", anchors.asked}, {"cached", anchors.cached}}},
                    {"in_flight", teachers.dispatcher().leased()},
                    {"queued", teachers.dispatcher().waiting()},
                    {"nodes", nodes}};
  return status.dump();
}

void LogSummary(const LaunchPlan& plan, const TeacherService& teachers, const TrainedWork& work,
                std::int64_t malformed_messages) {
  const AnswerStore::Stats s = teachers.stats();
  const TeacherService::Counts &samples = teachers.samples(), &anchors = teachers.anchors();
  LogInfo("served ", samples.asked, " micro-batches: ", samples.cached, " from the cache, ",
          samples.asked - samples.cached, " not; ", teachers.dispatcher().redispatched(), " leases dispatched again, ",
          teachers.dispatcher().dropped(), " late answers dropped, ", malformed_messages, " malformed messages");
  const double per_sample =
      1.0 / static_cast<double>(std::max<std::int64_t>(samples.asked * plan.experiment.data.micro_batch, 1));
  LogInfo("work per sample in forward-equivalents: generator ", work.generator * per_sample, ", fake score ",
          work.fake_score * per_sample, ", teacher ", samples.work * per_sample, " for scores and ",
          anchors.work * per_sample, " for anchors, together ",
          (work.generator + work.fake_score + samples.work + anchors.work) * per_sample);
  if (anchors.asked > 0) LogInfo("served ", anchors.asked, " anchors: ", anchors.cached, " from the cache");
  if (s.hits > 0) LogInfo("cache hits read at ", s.HitMegabytesPerSecond(), " MB/s");
  if (plan.topology.cache.enabled) {
    LogInfo("cache: ", s.entries, " entries, ", s.bytes, " bytes, ", s.evicted, " evicted, ", s.corrupt, " corrupt, ",
            s.lost, " lost", s.problem.empty() ? "" : "; not stored at the end: " + s.problem);
  }
}

}  // namespace sgmd
