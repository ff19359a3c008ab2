// The serial loop on an experiment: seconds a step and work a sample, to hold the pipeline against.
#include <CLI/CLI.hpp>
#include <iostream>

#include "tests/support/serial_loop.h"
#include "tests/support/temp_folder.h"

int main(int argc, char** argv) {
  CLI::App app{"Runs an experiment in one process, one step after the other."};
  std::string experiment;
  std::int64_t steps = 20;
  int threads = 2;
  app.add_option("experiment", experiment, "Experiment file")->required();
  app.add_option("--steps", steps, "Outer iterations")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  sgmd::Experiment e = sgmd::LoadExperiment(experiment);
  e.steps = steps;
  const sgmd::TempFolder out;
  const sgmd::SerialReport report = sgmd::RunSerially(e, out.path(), {.threads = threads});
  std::cout << "seconds_per_step " << report.seconds_per_step << "\nforward_equivalents_per_sample "
            << report.forward_equivalents_per_sample << "\n";
}
