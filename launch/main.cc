#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "launch/run/exit_codes.h"
#include "launch/verbs/verbs.h"

int main(int argc, char** argv) {
  CLI::App app{
      "Runs a distillation: broker, fake score, generator and teachers, from one topology file.\n\n"
      "  sgmd-launch plan   topology.toml             check everything, start nothing\n"
      "  sgmd-launch up     topology.toml             start, or resume from the last checkpoint\n"
      "  sgmd-launch scale  topology.toml teacher=3   more or fewer teachers while it runs\n"
      "  sgmd-launch replay topology.toml             the same run from cached scores, without a teacher"};
  app.require_subcommand(1);
  const std::vector<sgmd::Verb> verbs{sgmd::PlanVerb(app),   sgmd::UpVerb(app),        sgmd::ReplayVerb(app),
                                      sgmd::StatusVerb(app), sgmd::LogsVerb(app),      sgmd::ScaleVerb(app),
                                      sgmd::DownVerb(app),   sgmd::ReferenceVerb(app), sgmd::FailpointsVerb(app)};
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-launch"))
    return *code == 0 ? 0 : sgmd::kExitRefused;
  return sgmd::RunGuarded("sgmd-launch", [&] {
    sgmd::InitLog("launch", sgmd::LogLevel::kWarning);
    if (failpoints->parsed()) return std::cout << sgmd::failpoint::Listing(), 0;
    for (const sgmd::Verb& verb : verbs) {
      if (verb.command->parsed()) return verb.run();
    }
    return sgmd::kExitRefused;
  });
}
