#include <CLI/CLI.hpp>
#include <iostream>

#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/signals/signals.h"
#include "common/trace/trace.h"
#include "nodes/broker/broker.h"
#include "nodes/broker/replay_check.h"

int main(int argc, char** argv) {
  const sgmd::StopRequests& stop = sgmd::ListenToSignals(sgmd::Interrupt::kAsks);
  CLI::App app{
      "The score broker of a run: routes samples, leases them to teachers, keeps their scores.\n"
      "Started by sgmd-launch."};
  std::filesystem::path run;
  sgmd::Broker::Options options;
  app.add_option("--run", run, "Run folder")->required();
  bool check_replay = false;
  auto* epoch = app.add_option("--epoch", options.epoch, "Which start of the run this is");
  app.add_flag("--replay", options.replay, "Serve from the score cache alone; a miss fails the run");
  app.add_flag("--check-replay", check_replay, "Print what the score cache holds of the run, as JSON, and end")
      ->excludes(epoch);
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-broker")) return *code;
  return sgmd::RunGuarded("sgmd-broker", [&] {
    sgmd::InitLog("broker");
    if (check_replay) {
      std::cout << sgmd::ReplayCheckText(sgmd::LoadRun(run)) << std::endl;
      return 0;
    }
    if (options.epoch == 0) throw sgmd::Error("--epoch is missing");
    const sgmd::LaunchPlan plan = sgmd::LoadRun(run);
    const sgmd::trace::Recording recording(sgmd::RunFolder{run}.Traces(), "broker", plan.start.step,
                                           plan.experiment.outer.max_staleness + plan.experiment.outer.reuse);
    return sgmd::Broker(plan, options).Run(stop);
  });
}
