#include "nodes/broker/status.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/config/role.h"
#include "common/error/error.h"
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

Json DispatcherJson(const Dispatcher& d) {
  return {{"redispatched", d.redispatched()}, {"speculated", d.speculated()}, {"dropped", d.dropped()}};
}

Json NodeJson(const std::string& name, const Members& members) {
  const Members::Member& member = members.all().at(name);
  const Members::State state = members.StateOf(member);
  const bool stalled = state == Members::State::kStalled || state == Members::State::kSilent;
  return {{"name", name},
          {"state", Spell(state)},
          {"alive", member.joined && !stalled},
          {"stalled", stalled},
          {"silent_seconds", members.SilentSeconds(member)},
          {"idle_seconds", members.IdleSeconds(member)},
          {"progress", member.progress},
          {"scalars", FiniteOnly(member.metrics)}};
}

Json PaceJson(const RunProgress& run, std::int64_t step) {
  const auto each = run.pace.SecondsEach();
  if (!each) return Json::object();
  return {{"seconds_per_step", *each}, {"eta_seconds", *each * static_cast<double>(run.steps - step)}};
}

// "fake_score, which has been silent for 12 s"; empty of a member that is well.
std::string Complaint(const std::string& name, const Members& members) {
  const auto it = members.all().find(name);
  if (it == members.all().end()) return name + ", which has not come yet";
  const auto seconds = [](double value) { return std::to_string(std::lround(value)) + " s"; };
  switch (members.StateOf(it->second)) {
    case Members::State::kStarting:
      return name + ", which is starting";
    case Members::State::kGone:
      return name + ", which is gone";
    case Members::State::kSilent:
      return name + ", which has been silent for " + seconds(members.SilentSeconds(it->second));
    case Members::State::kStalled:
      return name + ", which has done nothing for " + seconds(members.IdleSeconds(it->second)) + " while it works";
    default:
      return "";
  }
}

// For how long nobody has done any work.
double StillSeconds(const Members& members) {
  double still = members.Seconds();
  for (const auto& [name, member] : members.all()) {
    const bool counts = member.joined && members.StateOf(member) == Members::State::kWorking;
    if (counts) still = std::min(still, members.IdleSeconds(member));
  }
  return still;
}

}  // namespace

std::string WaitingFor(const Members& members, const TeacherService& teachers) {
  constexpr double kPatience = 3;  // s
  if (StillSeconds(members) < kPatience) return "";
  for (const Role role : {Role::kGenerator, Role::kFakeScore}) {
    if (std::string complaint = Complaint(Spell(role), members); !complaint.empty()) return complaint;
  }
  const int wanted = teachers.dispatcher().waiting() + teachers.dispatcher().leased();
  if (wanted == 0) return "";
  std::string complaint = "a teacher, of which there is none";
  for (const auto& [name, member] : members.all()) {
    if (!SpeaksForTeacher(name)) continue;
    complaint = Complaint(name, members);
    if (complaint.empty()) return "";
  }
  return StrCat(complaint, "; ", wanted, " micro-batches are to be scored");
}

std::string StatusText(const RunProgress& run, const Members& members, const TeacherService& teachers,
                       std::int64_t malformed_messages) {
  Json nodes = Json::array(), scalars = Json::object();
  for (const auto& [name, member] : members.all()) {
    nodes.push_back(NodeJson(name, members));
    if (!IsTeacher(name)) scalars.update(FiniteOnly(member.metrics));
  }
  const TeacherService::Counts& anchors = teachers.anchors();
  const auto step = static_cast<std::int64_t>(scalars.value("step", 0.0));
  const Json status{{"state", run.state},
                    {"step", step},
                    {"steps", run.steps},
                    {"pace", PaceJson(run, step)},
                    {"waiting_for", WaitingFor(members, teachers)},
                    {"scalars", scalars},
                    {"cache", CacheJson(teachers.stats())},
                    {"anchors", {{"asked", anchors.asked}, {"cached", anchors.cached}}},
                    {"in_flight", teachers.dispatcher().leased()},
                    {"queued", teachers.dispatcher().waiting()},
                    {"dispatcher", DispatcherJson(teachers.dispatcher())},
                    {"malformed", malformed_messages},
                    {"nodes", nodes}};
  return status.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void LogSummary(const LaunchPlan& plan, const TeacherService& teachers, const TrainedWork& work,
                std::int64_t malformed_messages) {
  const AnswerStore::Stats s = teachers.stats();
  const TeacherService::Counts &samples = teachers.samples(), &anchors = teachers.anchors();
  LogInfo("served ", samples.asked, " micro-batches: ", samples.cached, " from the cache, ",
          samples.asked - samples.cached, " not; ", teachers.dispatcher().redispatched(), " leases dispatched again, ",
          teachers.dispatcher().speculated(), " given to a second teacher, ", teachers.dispatcher().dropped(),
          " late answers dropped, ", malformed_messages, " malformed messages");
  const std::int64_t used =  // samples, counted in each outer iteration that they serve
      samples.asked * plan.experiment.data.micro_batch * plan.experiment.outer.reuse;
  const double per_sample = 1.0 / static_cast<double>(std::max<std::int64_t>(used, 1));
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
