#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/evaluator/comparison.h"
#include "nodes/evaluator/watch.h"

namespace {

volatile std::sig_atomic_t stop = 0;

int Watch(const sgmd::LaunchPlan& plan) {
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, [](int) { stop = 1; });
  ::setpriority(PRIO_PROCESS, 0, 10);  // training comes first
  at::set_num_threads(static_cast<int>(plan.topology.evaluator_threads));
  sgmd::WatchRun(plan, stop);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Compares a finished student with its teacher: figures, a contact sheet, a GIF and report.md. With --watch, evaluates\n"
               "every checkpoint of a run that is up, into evaluation/metrics.jsonl and TensorBoard, until SIGTERM."};
  std::filesystem::path run;
  sgmd::ComparisonOptions options;
  int threads = 2;
  bool watch = false;
  std::uint64_t epoch = 0;
  app.add_option("--run", run, "Run folder; its experiment and its student/ are taken")->required();
  app.add_flag("--watch", watch, "Evaluate checkpoints as they come (settings: [evaluator] of the topology)");
  app.add_option("--student", options.student, "Another model folder to take as the student");
  app.add_option("--features", options.features, "Feature network of the Fréchet distance (default: as the topology says)");
  app.add_option("--out", options.out, "Where to write (default: the run folder)");
  app.add_option("--samples", options.samples, "Videos an arm")->check(CLI::Range(64, 100000))->capture_default_str();
  app.add_option("--teacher-steps", options.teacher_steps, "Steps of the many-step teacher")->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of noise and data")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--epoch", epoch, "Which start of the run this is (given by sgmd-launch)")->group("");
  CLI11_PARSE(app, argc, argv);
  return sgmd::RunGuarded("sgmd-evaluator", [&] {
    sgmd::InitLog("evaluator");
    const sgmd::LaunchPlan plan = sgmd::LoadRun(run);
    if (watch) return Watch(plan);
    at::set_num_threads(threads);
    options.experiment = plan.experiment;
    if (options.features.empty()) options.features = plan.topology.evaluator_features;
    if (options.student.empty()) options.student = run / "student";
    if (options.out.empty()) options.out = run;
    sgmd::CompareWithTeacher(options);
    std::cout << sgmd::StrCat((options.out / "report.md").string(), "\n");
    return 0;
  });
}
