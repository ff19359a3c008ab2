#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <sstream>

#include "common/command_line/command_line.h"
#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/signals/signals.h"
#include "nodes/evaluator/comparison.h"
#include "nodes/evaluator/every_checkpoint.h"
#include "nodes/evaluator/preview_evaluation.h"
#include "nodes/evaluator/watch.h"
#include "pipeline/device/torch_program.h"

namespace {

int Watch(const sgmd::LaunchPlan& plan, const sgmd::StopRequests& stop) {
  ::setpriority(PRIO_PROCESS, 0, 10);  // training comes first
  at::set_num_threads(static_cast<int>(plan.topology.evaluator.threads));
  sgmd::WatchRun(plan, stop.in_order);
  return 0;
}

// "1000,500"
sgmd::StudentSteps ParseGrid(const std::string& text) {
  sgmd::StudentSteps steps;
  std::istringstream in(text);
  for (std::string entry; std::getline(in, entry, ',');) {
    const bool number = !entry.empty() && entry.size() <= 4 && entry.find_first_not_of("0123456789") == entry.npos;
    const std::int64_t step = number ? std::stoll(entry) : 0;
    if (step < 1 || step > 1000 || (!steps.empty() && step >= steps.back())) {
      throw sgmd::Error("--fewer-steps " + text + ": not a grid", {},
                        "timesteps in 1 to 1000, descending, such as 1000,500");
    }
    steps.push_back(step);
  }
  if (steps.empty()) throw sgmd::Error("--fewer-steps: not a grid", {}, "such as 1000,500");
  return steps;
}

struct Options {
  std::filesystem::path run, student, out;
  sgmd::EvaluationSettings settings;  // where the command line says more than the topology
  std::vector<std::string> fewer;
  std::optional<std::filesystem::path> vae;  // these four of models with latents; else as the topology says
  std::optional<std::string> device;
  std::optional<std::int64_t> videos, vae_tile;
  int threads = 2;
  bool watch = false, every_checkpoint = false, baselines = false;
  std::uint64_t epoch = 0;
};

sgmd::EvaluationSettings Settings(const Options& o, const sgmd::LaunchPlan& plan) {
  const sgmd::EvaluationSettings of_run = sgmd::SettingsOf(plan.topology);
  sgmd::EvaluationSettings settings = o.settings;
  if (settings.features.empty()) settings.features = of_run.features;
  if (settings.reference.empty()) settings.reference = of_run.reference;
  return settings;
}

sgmd::Topology::Evaluator Previews(const Options& o, const sgmd::LaunchPlan& plan) {
  sgmd::Topology::Evaluator previews = plan.topology.evaluator;
  previews.vae = o.vae.value_or(previews.vae);
  previews.device = o.device.value_or(previews.device);
  previews.vae_tile = o.vae_tile.value_or(previews.vae_tile);
  previews.videos = o.videos.value_or(previews.videos);
  previews.teacher_steps = o.settings.teacher_steps;
  if (previews.vae.empty())
    throw sgmd::Error("videos of a model with latents need a VAE", "--vae", "a Diffusers vae/ folder, or a pipeline's");
  return previews;
}

int Evaluate(const Options& o, const sgmd::LaunchPlan& plan) {
  const sgmd::EvaluationSettings settings = Settings(o, plan);
  std::vector<sgmd::StudentSteps> fewer;
  for (const std::string& text : o.fewer) fewer.push_back(ParseGrid(text));
  if (!sgmd::LatentsArePixels(plan.experiment)) {
    if (o.baselines || !fewer.empty())
      throw sgmd::Error(
          "--baselines and --fewer-steps are for the embedded model, whose videos are measured against data");
    sgmd::PreviewEvaluation evaluation(plan, Previews(o, plan));
    for (const auto& checkpoint : evaluation.checkpoints().All())
      if (!evaluation.Has(checkpoint.step)) evaluation.Evaluate(checkpoint);
    return 0;
  }
  if (o.baselines) sgmd::EvaluateBaselines(plan, settings, fewer);
  if (o.every_checkpoint) sgmd::EvaluateEveryCheckpoint(plan, settings, fewer);
  return 0;
}

int Compare(const Options& o, const sgmd::LaunchPlan& plan) {
  const std::filesystem::path student = o.student.empty() ? o.run / "student" : o.student,
                              out = o.out.empty() ? o.run : o.out;
  if (sgmd::LatentsArePixels(plan.experiment)) {
    sgmd::CompareWithTeacher(
        {.experiment = plan.experiment, .evaluation = Settings(o, plan), .student = student, .out = out});
  } else {
    sgmd::CompareByPreviews(plan, Previews(o, plan), student, out);
  }
  std::cout << sgmd::StrCat((out / "report.md").string(), "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Compares a finished student with its teacher: figures, pictures, videos and report.md. With --watch,\n"
      "evaluates the checkpoints of a run that is up, in order, into evaluation/metrics.jsonl and TensorBoard, until\n"
      "SIGTERM; its log names those that the run deleted before their turn ([checkpoint] keep of the experiment).\n"
      "With --every-checkpoint, evaluates all checkpoints that a run has kept in the same way, and ends."};
  Options o;
  app.add_option("--run", o.run, "Run folder; its experiment and its student/ are taken")->required();
  const auto watch =
      app.add_flag("--watch", o.watch, "Evaluate checkpoints as they come (settings: [evaluator] of the topology)");
  app.add_flag("--every-checkpoint", o.every_checkpoint, "Evaluate all checkpoints of a run that is not up")
      ->excludes(watch);
  app.add_flag("--baselines", o.baselines, "Measure what students are compared with: teacher, data, untrained student")
      ->excludes(watch);
  app.add_option("--fewer-steps", o.fewer,
                 "Another grid for the last checkpoint and the untrained student, such as 1000,500; may be repeated");
  app.add_option("--reference", o.settings.reference,
                 "File that keeps the teacher's videos, drawn if need be; runs may share it");
  app.add_option("--vae", o.vae, "Of a model with latents: what decodes them (default: as the topology says)");
  app.add_option("--vae-tile", o.vae_tile,
                 "Of a model with latents: pixels a side of the tiles in which frames are decoded, 0 for whole frames "
                 "(default: as the topology says)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--device", o.device, "Of a model with latents: cpu or cuda:N (default: as the topology says)");
  app.add_option("--videos", o.videos, "Of a model with latents: prompts of the bank that are drawn")
      ->check(CLI::Range(1, 256));
  app.add_option("--student", o.student, "Another model folder to take as the student");
  app.add_option("--features", o.settings.features,
                 "Feature network of the Fréchet distance (default: as the topology says)");
  app.add_option("--out", o.out, "Where to write (default: the run folder)");
  app.add_option("--samples", o.settings.samples, "Videos an arm; a Fréchet distance of D features needs 10 D")
      ->check(CLI::Range(64, 1000000))
      ->capture_default_str();
  app.add_option("--teacher-steps", o.settings.teacher_steps, "Steps of the many-step teacher")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--teacher-guidance", o.settings.guidance,
                 "Guidance of the teacher that students are compared with (default: that of its scores in training)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", o.settings.seed, "Seed of noise and data")->check(sgmd::Seed())->capture_default_str();
  app.add_option("--threads", o.threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--epoch", o.epoch, "Which start of the run this is (given by sgmd-launch)")->group("");
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-evaluator")) return *code;
  return sgmd::RunTorchProgram("sgmd-evaluator", [&] {
    sgmd::InitLog("evaluator");
    const sgmd::LaunchPlan plan = sgmd::LoadRun(o.run);
    if (o.watch) return Watch(plan, sgmd::ListenToSignals());
    at::set_num_threads(o.threads);
    return o.every_checkpoint || o.baselines ? Evaluate(o, plan) : Compare(o, plan);
  });
}
