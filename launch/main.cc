#include <iostream>

#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "launch/verbs.h"

namespace {

// One verb with the topology or run folder that it works on.
CLI::App* AddVerb(CLI::App& app, sgmd::LaunchOptions& o, const char* name, const char* help) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_option("topology", o.target, "Topology file, or the folder of a run")->required()->check(CLI::ExistingPath);
  return verb;
}

void AddPlanning(CLI::App* plan, CLI::App* up, CLI::App* replay, sgmd::LaunchOptions& o) {
  plan->add_option("--emit", o.emit, "Print a job script that starts the run")->check(CLI::IsMember({"slurm"}));
  plan->add_option("--time", o.time_limit, "Time limit of the job, as sbatch takes it")->capture_default_str();
  plan->add_option("--tflops", o.tflops, "Speed of every device in TFLOP/s, for the time that the plan prints")
      ->check(CLI::PositiveNumber);
  plan->add_flag("--no-weights", o.no_weights, "Plan a model of which only config.json is here");
  plan->add_flag("--allow-oversize", o.allow_oversize,
                 "Exit with 0, not 2, where the devices' memory does not suffice");
  up->add_flag("--fresh", o.fresh, "Refuse to resume: the run folder must hold no checkpoint");
  up->add_option("--host", o.host, "Which of the topology's hosts this is: only its processes are started here");
  for (CLI::App* verb : {plan, up}) {
    verb->add_option("--set", o.overrides, "section.key=value in place of what the files say; may be repeated")
        ->take_all()
        ->allow_extra_args(false);
  }
  for (CLI::App* verb : {plan, up, replay}) {
    verb->add_option("--run-folder", o.run_folder, "Run here instead of in the topology's folder");
  }
  for (CLI::App* verb : {up, replay}) {
    verb->add_flag("--quiet", o.quiet, "Progress only; process output goes to the logs");
    verb->add_flag("--allow-oversize", o.allow_oversize, "Start also where the devices' memory does not suffice");
  }
}

void AddLiveVerbs(CLI::App& app, sgmd::LaunchOptions& o) {
  AddVerb(app, o, "status", "Show the live run");
  AddVerb(app, o, "scale", "Change the number of teachers of the live run")
      ->add_option("count", o.scale, "teacher=N")
      ->required();
  AddVerb(app, o, "down", "Drain, checkpoint and end the live run")
      ->add_flag("--now", o.now, "Kill instead; the next up resumes from the last checkpoint");
  CLI::App* logs = AddVerb(app, o, "logs", "Show the processes' logs");
  logs->add_option("process", o.process, "broker, generator, fake_score or teacher.N (default: all)");
  logs->add_option("-n,--lines", o.lines, "Lines of each")->capture_default_str();
  logs->add_flag("-f,--follow", o.follow, "Go on as they grow");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Runs a distillation: broker, fake score, generator and teachers, from one topology file.\n\n"
      "  sgmd-launch plan   topology.toml             check everything, start nothing\n"
      "  sgmd-launch up     topology.toml             start, or resume from the last checkpoint\n"
      "  sgmd-launch scale  topology.toml teacher=3   more or fewer teachers while it runs\n"
      "  sgmd-launch replay topology.toml             the same run from cached scores, without a teacher"};
  app.require_subcommand(1);
  sgmd::LaunchOptions o;
  CLI::App* plan = AddVerb(app, o, "plan", "Validate and show what would run, on what, and how long it takes");
  CLI::App* up = AddVerb(app, o, "up", "Start the run or resume it; Ctrl-C drains and checkpoints, a second one kills");
  CLI::App* replay =
      AddVerb(app, o, "replay", "Run the recorded experiment again from the score cache; needs no teacher");
  AddPlanning(plan, up, replay, o);
  AddLiveVerbs(app, o);
  const CLI::App* reference = app.add_subcommand("reference", "Print every key of both files, as Markdown");
  const CLI::App* failpoints = app.add_subcommand("failpoints", "List where SGMD_FAILPOINTS makes things go wrong");
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-launch")) return *code;
  return sgmd::RunGuarded("sgmd-launch", [&] {
    sgmd::InitLog("launch", sgmd::LogLevel::kWarning);
    if (plan->parsed()) return sgmd::PlanVerb(o);
    if (up->parsed() || replay->parsed()) return sgmd::UpVerb(o, replay->parsed());
    if (reference->parsed()) return sgmd::ReferenceVerb();
    if (failpoints->parsed()) return std::cout << sgmd::failpoint::Listing(), 0;
    if (app.got_subcommand("status")) return sgmd::StatusVerb(o);
    if (app.got_subcommand("scale")) return sgmd::ScaleVerb(o);
    if (app.got_subcommand("down")) return sgmd::DownVerb(o);
    return sgmd::LogsVerb(o);
  });
}
