#include "nodes/evaluator/watch.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/event_writer.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_store.h"
#include "nodes/evaluator/arms.h"
#include "nodes/evaluator/measures.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

constexpr std::uint64_t kSeed = 1000;

class Watch {
 public:
  explicit Watch(const LaunchPlan& plan)
      : plan_(plan),
        folder_(RunFolder{plan.topology.run_folder}.Evaluation()),
        bank_(PromptBank::Open(plan.experiment.prompts)),
        teacher_(WanTransformer::Load(plan.experiment.teacher, at::kCPU)),
        student_(plan.experiment.lora_rank > 0 ? teacher_.WithAdapters(LoraOf(plan.experiment), 0) : teacher_.Clone()),
        reference_(TeacherArm(plan.experiment, teacher_, plan.topology.evaluator_teacher_steps)),
        events_(RunFolder{plan.topology.run_folder}.Events() / "evaluator"),
        measurer_(Reference()),
        checkpoints_(RunFolder{plan.topology.run_folder}.Checkpoints(), ExperimentDigest(plan.experiment)) {
    std::ifstream lines(folder_ / "metrics.jsonl");
    for (std::string line; std::getline(lines, line);) {
      const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (object.contains("step")) done_.insert(object["step"].get<std::int64_t>());
    }
    LogInfo("watching for checkpoints, ", plan.topology.evaluator_samples, " videos each");
  }

  // Finished or drained: the generator writes the student last, the launcher the epoch first.
  bool RunHasEnded() const {
    const RunFolder run{plan_.topology.run_folder};
    std::error_code missing;
    const auto student = std::filesystem::last_write_time(run.Student(), missing);
    const auto epoch = std::filesystem::last_write_time(run.Epoch(), missing);
    return !missing && std::filesystem::exists(run.Student()) && student > epoch;
  }

  // Whether there was something new.
  bool EvaluateNewest() {
    const auto checkpoint = checkpoints_.Newest();
    if (!checkpoint || done_.contains(checkpoint->step)) return false;
    if (!LoadStudent(checkpoint->folder)) return false;
    Arm arm = FewStepArm(plan_.experiment, student_, "student", 1.0);
    DrawVideos(plan_.experiment, bank_, plan_.topology.evaluator_samples, kSeed, arm);
    Record(checkpoint->step, measurer_.Of(arm.videos), arm);
    done_.insert(checkpoint->step);
    return true;
  }

 private:
  Measurer Reference() {
    const Experiment& e = plan_.experiment;
    bank_.RequireFits(teacher_.config().text_dim, teacher_.config().text_len);
    if (teacher_.config().out_dim != 3)
      throw Error("only models of the embedded RGB data can be evaluated so far", e.teacher.string());
    std::filesystem::create_directories(folder_ / "videos");
    const std::filesystem::path file = folder_ / "teacher.safetensors";
    const std::string what =
        StrCat(ModelDigest(e.teacher).Hex(), " guidance ", e.guidance, " shift ", e.student_shift, " steps ",
               plan_.topology.evaluator_teacher_steps, " samples ", plan_.topology.evaluator_samples);
    if (std::filesystem::exists(file) && SafetensorsFile::Open(file).metadata().at("sgmd.reference") == what) {
      reference_.videos = CopyToTensor(SafetensorsFile::Open(file).At("videos"));
    } else {
      DrawVideos(e, bank_, plan_.topology.evaluator_samples, kSeed, reference_);
      SaveTensors(file, {{"videos", reference_.videos}}, {{"sgmd.reference", what}});
    }
    const BouncingBallsShape shape{e.latent[1], e.latent[2], e.latent[3]};
    return Measurer(
        LoadVideoFeatures(plan_.topology.evaluator_features), reference_.videos,
        DrawBouncingBalls(shape, plan_.topology.evaluator_samples, SeedFor(kSeed, 0, 0, "evaluation_reference")).video);
  }

  // False when the run has deleted this checkpoint meanwhile; a newer one is there then.
  bool LoadStudent(const std::filesystem::path& folder) {
    const bool averaged = plan_.experiment.ema_decay > 0;
    const std::filesystem::path file =
        folder / (averaged ? "generator.ema.safetensors" : "generator.model.safetensors");
    try {
      const SafetensorsFile weights = SafetensorsFile::Open(file);
      c10::NoGradGuard no_grad;
      for (const auto& [name, parameter] : student_.trained())
        at::Tensor(parameter).copy_(CopyToTensor(weights.At(name)));
      return true;
    } catch (const Error&) {
      if (std::filesystem::exists(file)) throw;
      return false;
    }
  }

  void Record(std::int64_t step, const Measures& measures, const Arm& arm) {
    nlohmann::json line{{"step", step},
                        {"samples", arm.videos.size(0)},
                        {"guidance", StrCat("u + ", plan_.experiment.guidance, " (c - u)")}};
    for (const auto& [tag, value] : measures.Named()) {
      line[tag] = value;
      events_.Scalar("evaluation/" + tag, step, value);
    }
    char name[32];
    std::snprintf(name, sizeof name, "step-%08lld.gif", static_cast<long long>(step));
    const std::filesystem::path gif = folder_ / "videos" / name;
    const at::Tensor mosaic = Mosaic({&reference_, &arm}, static_cast<std::int64_t>(bank_.prompts().size()), false);
    WriteVideo(gif, mosaic, kFramesPerSecond);
    events_.Image("evaluation/teacher_student", step, mosaic.size(1), mosaic.size(2), ReadFile(gif));
    std::ofstream(folder_ / "metrics.jsonl", std::ios::app) << line.dump() << std::endl;
    LogInfo("step ", step, ": Fréchet to teacher ", measures.frechet_teacher, ", speed distance ",
            measures.track.speed_distance, ", dynamic degree ", measures.dynamic_degree);
  }

  LaunchPlan plan_;
  std::filesystem::path folder_;
  PromptBank bank_;
  WanTransformer teacher_, student_;
  Arm reference_;
  EventWriter events_;
  Measurer measurer_;
  CheckpointStore checkpoints_;
  std::set<std::int64_t> done_;
};

}  // namespace

void WatchRun(const LaunchPlan& plan, const volatile std::sig_atomic_t& stop) {
  Watch watch(plan);
  while (!stop) {
    const bool ended = watch.RunHasEnded();
    if (watch.EvaluateNewest()) continue;
    if (ended) return;  // and everything that was committed before is done
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

}  // namespace sgmd
