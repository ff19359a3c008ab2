#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "common/command_line/command_line.h"
#include "common/config/experiment.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/pretrainer/feature_training.h"
#include "nodes/pretrainer/pretraining.h"
#include "pipeline/device/torch_program.h"

int main(int argc, char** argv) {
  CLI::App app{"Trains what the embedded default needs on procedural videos of a bouncing ball."};
  app.require_subcommand(1);
  int threads = 1;
  app.add_option("--threads", threads, "CPU threads; part of the result")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();

  sgmd::PretrainingOptions teacher;
  CLI::App* t = app.add_subcommand("teacher", "A tiny Wan model. Interrupt it at any time; the same command resumes.");
  t->add_option("--out", teacher.out, "Model folder to write (config.json, weights, prompt_bank.safetensors)")
      ->required();
  t->add_option("--width", teacher.width, "Width of the model; a smaller one makes a smaller student")
      ->check(CLI::IsMember(std::vector<std::string>{"32", "64", "96", "128", "192", "256"}))
      ->capture_default_str();
  t->add_option("--steps", teacher.steps, "Updates")->check(CLI::PositiveNumber)->capture_default_str();
  t->add_option("--batch", teacher.batch, "Videos per update")->check(CLI::PositiveNumber)->capture_default_str();
  t->add_option("--learning-rate", teacher.learning_rate, "Peak learning rate of AdamW (warm-up, then cosine to 0)")
      ->check(sgmd::NumberIn(1e-12, 1))
      ->capture_default_str();
  t->add_option("--seed", teacher.seed, "Seed of initialisation and data")->check(sgmd::Seed())->capture_default_str();
  t->add_option("--save-every", teacher.save_every, "Updates between the states it resumes from")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  t->add_flag("--force", teacher.force, "Replace a model that was trained with other settings");

  sgmd::FeatureTrainingOptions features;
  CLI::App* f =
      app.add_subcommand("features", "The network whose features the Fréchet distance compares (about a minute)");
  f->add_option("--out", features.out, "safetensors file to write")->required();
  f->add_option("--steps", features.steps, "Updates")->check(CLI::PositiveNumber)->capture_default_str();
  f->add_option("--batch", features.batch, "Videos per update")->check(CLI::PositiveNumber)->capture_default_str();
  f->add_option("--learning-rate", features.learning_rate, "Peak learning rate (cosine to 0)")
      ->check(sgmd::NumberIn(1e-12, 1))
      ->capture_default_str();
  f->add_option("--seed", features.seed, "Seed of initialisation and data")->check(sgmd::Seed())->capture_default_str();
  f->add_flag("--force", features.force, "Replace a network that was trained with other settings");

  app.fallthrough();
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-pretrainer")) return *code;
  return sgmd::RunTorchProgram("sgmd-pretrainer", [&] {
    sgmd::InitLog("pretrainer");
    at::set_num_threads(threads);
    if (*t) {
      sgmd::Pretrain(teacher);
      std::cout << "teacher " << teacher.out.string() << " digest " << sgmd::ModelDigest(teacher.out).Hex() << "\n";
    } else {
      sgmd::TrainFeatures(features);
      std::cout << "features " << features.out.string() << " digest " << sgmd::DigestFile(features.out).Hex() << "\n";
    }
    return 0;
  });
}
