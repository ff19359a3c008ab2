#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/evaluator/comparison.h"

int main(int argc, char** argv) {
  CLI::App app{"Compares a finished student with its teacher: motion figures, a contact sheet, a GIF and report.md."};
  std::filesystem::path run;
  sgmd::ComparisonOptions options;
  int threads = 2;
  app.add_option("--run", run, "Run folder; its experiment and its student/ are taken")->required();
  app.add_option("--student", options.student, "Another model folder to take as the student");
  app.add_option("--out", options.out, "Where to write (default: the run folder)");
  app.add_option("--samples", options.samples, "Videos an arm")->check(CLI::Range(64, 100000))->capture_default_str();
  app.add_option("--teacher-steps", options.teacher_steps, "Steps of the many-step teacher")->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of noise and data")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return sgmd::RunGuarded("sgmd-evaluator", [&] {
    sgmd::InitLog("evaluator");
    at::set_num_threads(threads);
    options.experiment = sgmd::LoadRun(run).experiment;
    if (options.student.empty()) options.student = run / "student";
    if (options.out.empty()) options.out = run;
    sgmd::CompareWithTeacher(options);
    std::cout << sgmd::StrCat((options.out / "report.md").string(), "\n");
    return 0;
  });
}
