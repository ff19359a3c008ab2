#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "common/config/experiment.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/pretrainer/pretraining.h"

int main(int argc, char** argv) {
  CLI::App app{"Pretrains the embedded teacher: a tiny Wan model on procedural videos of a bouncing ball.\n"
               "Interrupt it at any time; the same command resumes."};
  sgmd::PretrainingOptions options;
  int threads = 2;
  app.add_option("--out", options.out, "Model folder to write (config.json, weights, prompt_bank.safetensors)")->required();
  app.add_option("--steps", options.steps, "Updates")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--batch", options.batch, "Videos per update")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--learning-rate", options.learning_rate, "Peak learning rate (warm-up, then cosine to 0)")->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of initialisation and data")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads; part of the result")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return sgmd::RunGuarded("sgmd-pretrainer", [&] {
    sgmd::InitLog("pretrainer");
    at::set_num_threads(threads);
    sgmd::Pretrain(options);
    std::cout << "teacher " << options.out.string() << " digest " << sgmd::ModelDigest(options.out).Hex() << "\n";
    return 0;
  });
}
