// More or fewer teachers while a run is up.
#include <charconv>
#include <iostream>
#include <memory>

#include "common/error/error.h"
#include "launch/plan/teacher_scale.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_control.h"
#include "launch/verbs/planning.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

struct ScaleOptions : PlanningOptions {
  std::string wanted;  // "teacher=N"
};

std::int64_t CountOf(const std::string& wanted) {
  constexpr std::string_view kBefore = "teacher=";
  std::int64_t count = 0;
  const char* const end = wanted.data() + wanted.size();
  const bool form = wanted.starts_with(kBefore);
  const auto read = std::from_chars(form ? wanted.data() + kBefore.size() : end, end, count);
  if (read.ec == std::errc() && read.ptr == end) return count;
  throw Error("\"" + wanted + "\" does not say how many teachers are wanted", {}, "such as teacher=3");
}

int Scale(const ScaleOptions& o) {
  const std::int64_t count = CountOf(o.wanted);
  const auto run = FindRunFolder(o.target);
  const auto client = ConnectToRun(run);
  const LaunchPlan started = LoadRun(run);
  RequireTeacherCount(started, count);
  LaunchPlan plan = started;
  plan.topology.teacher.replicas = count;
  if (const std::string text = OversizeText(plan, o); !text.empty()) {
    std::cerr << text << "the run goes on as it is; --allow-oversize scales it all the same\n";
    return kExitRefused;
  }
  client->Send(ToEnvelope(message::Scale{static_cast<std::int32_t>(count)}));
  const auto answer = client->Receive(std::chrono::seconds(5));
  const std::string problem = answer ? FromEnvelope<message::Scaled>(*answer).problem : "the broker does not answer";
  if (!problem.empty()) throw Error("the run was not scaled: " + problem);
  RememberTeachers(started, count);
  std::cout << "scaling to " << count << " teachers, also in later starts of this run\n";
  return 0;
}

}  // namespace

Verb ScaleVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "scale", "Change the number of teachers of the live run, which its later starts keep",
                           "scale runs/demo teacher=3");
  const auto o = std::make_shared<ScaleOptions>();
  AddTarget(*verb, o->target);
  AddAllowOversize(*verb, *o);
  verb->add_option("count", o->wanted, "teacher=N")->required();
  return {verb, [o] { return Scale(*o); }};
}

}  // namespace sgmd
