#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "launch/run/exit_codes.h"
#include "launch/verbs/verbs.h"

namespace {

constexpr const char* kHelp =
    R"(Runs a distillation: broker, fake score, generator and teachers, from one topology file.

  sgmd-launch plan   topology.toml             check everything, start nothing
  sgmd-launch up     topology.toml             start, or resume from the last checkpoint
  sgmd-launch scale  topology.toml teacher=3   more or fewer teachers while it runs
  sgmd-launch replay topology.toml             the same run from cached scores, without a teacher)";

constexpr const char* kExitCodes = R"(Exit codes of up, replay, wait and status --watch:
  0    finished: the last step is done and checkpointed
  1    failed: `status` and `history` say why; `up` goes on from the last checkpoint
  2    refused: nothing was started
  75   drained before the last step: `up` goes on
  124  wait --timeout: the run goes on
  130  killed: `up` goes on from the last checkpoint
Every verb has examples: sgmd-launch <verb> --help)";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kHelp};
  app.require_subcommand(1);
  app.footer(kExitCodes);
  std::vector<sgmd::Verb> verbs;
  for (const auto make : {sgmd::PlanVerb, sgmd::UpVerb, sgmd::ReplayVerb, sgmd::StatusVerb, sgmd::WaitVerb,
                          sgmd::PsVerb, sgmd::HistoryVerb, sgmd::LogsVerb, sgmd::ScaleVerb, sgmd::DownVerb,
                          sgmd::KeysVerb, sgmd::CompletionVerb, sgmd::ReferenceVerb, sgmd::FailpointsVerb}) {
    verbs.push_back(make(app));
  }
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-launch"))
    return *code == 0 ? 0 : sgmd::kExitRefused;
  return sgmd::RunGuarded("sgmd-launch", [&] {
    sgmd::InitLog("launch", sgmd::LogLevel::kWarning);
    for (const sgmd::Verb& verb : verbs) {
      if (verb.command->parsed()) return verb.run();
    }
    return sgmd::kExitRefused;
  });
}
