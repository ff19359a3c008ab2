#include "nodes/evaluator/run_evaluation.h"

#include <ATen/ATen.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/evaluation/video_file.h"

namespace sgmd {

RunEvaluation::RunEvaluation(const LaunchPlan& plan, const EvaluationSettings& settings)
    : plan_(plan),
      folder_(RunFolder{plan.topology.run.folder}.Evaluation()),
      reference_(plan.experiment, settings),
      student_(plan.experiment),
      events_(RunFolder{plan.topology.run.folder}.Events() / "evaluator"),
      checkpoints_(RunFolder{plan.topology.run.folder}.Checkpoints(), ExperimentDigest(plan.experiment)) {
  std::filesystem::create_directories(folder_ / "videos");
  std::ifstream lines(folder_ / "metrics.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.contains("step") || !object.contains("frechet_teacher_floor")) continue;  // or of an earlier form
    done_.emplace(object["step"].get<std::int64_t>(),
                  object.value("student_steps", plan.experiment.schedule.student_steps),
                  object.value("samples", settings.samples));
  }
}

bool RunEvaluation::Has(std::int64_t step, const StudentSteps& grid) const {
  return done_.contains({step, grid, videos()});
}

std::optional<Arm> RunEvaluation::Measure(const CheckpointStore::Checkpoint& checkpoint, const StudentSteps& grid) {
  if (!student_.Load(checkpoint.folder)) return {};
  Arm arm = StudentArm(experiment(), grid, student_.model());
  reference_.Draw(arm);
  Record(checkpoint.step, grid, arm);
  return arm;
}

void RunEvaluation::Record(std::int64_t step, const StudentSteps& grid, const Arm& arm) {
  const Measures measures = reference_.measurer().Of(arm.videos);
  nlohmann::json line{{"step", step},
                      {"samples", arm.videos.size(0)},
                      {"student_steps", grid},
                      {"guidance", GuidanceOf(experiment()).Formula()}};
  for (const auto& [tag, value] : measures.Fields()) line[tag] = value;
  const Estimate& floor = reference_.floor().At("frechet_teacher");
  line["frechet_teacher_floor"] = floor.value;
  if (grid == own_grid()) Publish(step, measures, arm);
  std::ofstream(folder_ / "metrics.jsonl", std::ios::app) << line.dump() << std::endl;
  done_.emplace(step, grid, arm.videos.size(0));
  LogInfo("step ", step, ", ", arm.title, ": Fréchet to teacher ", Text(measures.At("frechet_teacher")),
          " (of another draw of the teacher ", Text(floor), "), speed distance ", Text(measures.At("speed_distance")),
          ", dynamic degree ", Text(measures.At("dynamic_degree")));
}

void RunEvaluation::Publish(std::int64_t step, const Measures& measures, const Arm& arm) {
  for (std::size_t i = 0; i < measures.names.size(); ++i) {
    events_.Scalar("evaluation/" + measures.names[i], step, measures.estimates[i].value);
  }
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld.gif", static_cast<long long>(step));
  const std::filesystem::path gif = folder_ / "videos" / name;
  const at::Tensor mosaic = Moving(GridOf({&reference_.again(), &arm}, prompts()), 2 * kEnlarge);
  WriteVideo(gif, mosaic, kFramesPerSecond);
  events_.Image("evaluation/teacher_student", step, mosaic.size(1), mosaic.size(2), ReadFile(gif));
}

}  // namespace sgmd
