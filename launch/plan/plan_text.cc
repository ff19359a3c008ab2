#include "launch/plan/plan_text.h"

#include <cstdio>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/storage/checkpoint_store.h"
#include "launch/plan/run_commands.h"
#include "pipeline/models/role_experts.h"

namespace sgmd {
namespace {

std::string ProcessLine(const RunCommand& command) {
  char head[80];
  std::snprintf(head, sizeof head, "%-12s %-8s %-8lld ", command.name.c_str(), Spell(command.place.device).c_str(),
                static_cast<long long>(command.place.threads));
  return StrCat(head, Joined(command.words), "\n");
}

std::string ExpertsText(const Experiment& e) {
  if (!HasTwoExperts(e)) return "";
  const char* trained = e.schedule.experts == TrainedExperts::kBoth        ? "both are"
                        : e.schedule.experts == TrainedExperts::kHighNoise ? "the high-noise one alone is"
                                                                           : "the low-noise one alone is";
  return StrCat("experts     ", trained, " trained, that of high noise from sigma ", e.model.boundary, "\n");
}

}  // namespace

std::string PlanText(const LaunchPlan& plan, std::uint64_t epoch, const std::filesystem::path& programs,
                     RequiredFiles needed) {
  const Experiment& e = plan.experiment;
  const Topology& t = plan.topology;
  const bool known = needed == RequiredFiles::kAll;
  const Digest digest = known ? ExperimentDigest(e) : Digest{};
  std::string text =
      StrCat("experiment  ", e.name, "  (", known ? digest.Hex() : "identity not known without the weights", ")\n");
  text += StrCat("computes    ", e.steps, " steps of ", e.data.micro_batches, " micro-batches of ", e.data.micro_batch,
                 " samples, ", Spell(e.objective.name),
                 e.objective.name == Objective::kSgmd
                     ? StrCat(" (", Spell(e.objective.weighting), ", lambda ", e.objective.lambda, ")")
                     : "",
                 ", guidance ", GuidanceOf(e).Formula(), ", ", e.inner.updates,
                 e.inner.updates == 1 ? " inner update on " : " inner updates on ", Spell(e.inner.source), " samples, ",
                 e.lora.rank > 0 ? StrCat("adapters of rank ", e.lora.rank, ", ") : "", Spell(e.precision.compute),
                 ", ", e.outer.max_staleness == 0 ? "strict" : "pipelined", "\n");
  const auto own = [](const char* title, const std::filesystem::path& model) {
    return model.empty() ? "" : StrCat("\n", title, model.string());
  };
  text += StrCat("teacher     ", e.model.teacher.string(), own("student     ", e.model.student),
                 own("fake score  ", e.model.fake_score), "\n", ExpertsText(e), "prompts     ",
                 e.model.prompts.string(), "\nrun folder  ", t.run.folder.string(), "\ncache       ",
                 t.cache.enabled ? StrCat(t.cache.folder.string(), ", at most ", t.cache.limit_gib, " GiB") : "off",
                 "\nendpoints   ", t.transport.data, "  ", t.transport.control,
                 t.transport.encrypt ? "  encrypted" : "", "\n");
  for (const auto& [name, value] : t.env) text += StrCat("environment ", name, "=", value, "\n");
  const auto checkpoints = RunFolder{t.run.folder}.Checkpoints();
  const auto newest =
      known && std::filesystem::exists(checkpoints) ? CheckpointStore(checkpoints, digest).Newest() : std::nullopt;
  if (newest) text += StrCat("resumes     ", newest->folder.string(), "\n");
  if (known && !newest)
    text += e.model.student.empty() ? "starts      from the teacher's weights\n"
                                    : "starts      from the student's weights\n";
  const auto commands = RunCommands(plan, epoch, false, programs);
  for (const std::string& host : HostsOf(t)) {
    text += StrCat("\n", host.empty() ? "" : StrCat("host ", host, ": sgmd-launch up --host ", host, "\n"),
                   "process      device   threads  command\n");
    for (const RunCommand& command : commands) {
      if (command.place.host == host) text += ProcessLine(command);
    }
  }
  return text;
}

}  // namespace sgmd
