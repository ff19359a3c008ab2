#include "nodes/evaluator/every_checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/evaluation/video_file.h"

namespace sgmd {
namespace {

// One column: a video a row, as a strip of its frames and moving. Without names: to be put beside others.
void Show(const std::filesystem::path& evaluation, const std::string& name, const Arm& arm,
          const std::vector<std::string>& prompts) {
  std::filesystem::create_directories(evaluation / "videos");
  const PictureGrid column{{}, {}, GridOf({&arm}, prompts).cells};
  WritePng(evaluation / "videos" / (name + ".png"), Strips(column, kEnlarge));
  WriteVideo(evaluation / "videos" / (name + ".gif"), Moving(column, kEnlarge), kFramesPerSecond);
}

std::int64_t Evaluations(const Arm& arm) {
  return static_cast<std::int64_t>(arm.sigmas.size() - 1) * (arm.guidance.Guides() ? 2 : 1);
}

std::vector<StudentSteps> WithOwnGrid(const Experiment& e, std::vector<StudentSteps> grids) {
  if (std::find(grids.begin(), grids.end(), e.schedule.student_steps) == grids.end())
    grids.insert(grids.begin(), e.schedule.student_steps);
  return grids;
}

class Baselines {
 public:
  Baselines(const LaunchPlan& plan, const EvaluationSettings& settings)
      : folder_(RunFolder{plan.topology.run.folder}.Evaluation()), reference_(plan.experiment, settings) {}

  const Reference& reference() const { return reference_; }

  void Measure(const std::string& name, const Arm& arm) {
    nlohmann::json line{{"arm", name}, {"samples", arm.videos.size(0)}};
    if (arm.model != nullptr) line["evaluations"] = Evaluations(arm);
    const Measures measures = MeasuresOf(arm);
    for (const auto& [tag, value] : measures.Fields()) line[tag] = value;
    lines_ += line.dump() + "\n";
    Show(folder_, name, arm, reference_.prompts());
    LogInfo(name, ": Fréchet to teacher ", Text(measures.At("frechet_teacher")));
  }

  void Save() const { WriteFileAtomically(folder_ / "baselines.jsonl", lines_); }

 private:
  Measures MeasuresOf(const Arm& arm) const {
    if (&arm == &reference_.arm()) return reference_.measurer().OfTeacher();
    return &arm == &reference_.again() ? reference_.floor() : reference_.measurer().Of(arm.videos);
  }

  std::filesystem::path folder_;
  Reference reference_;
  std::string lines_;
};

}  // namespace

void EvaluateEveryCheckpoint(const LaunchPlan& plan, const EvaluationSettings& settings,
                             const std::vector<StudentSteps>& fewer) {
  RunEvaluation evaluation(plan, settings);
  const Experiment& e = plan.experiment;
  const RunFolder run{plan.topology.run.folder};
  const auto checkpoints = evaluation.checkpoints().All();
  if (checkpoints.empty()) throw Error("no checkpoint to evaluate", run.Checkpoints().string());
  for (const auto& checkpoint : checkpoints) {
    const bool last = checkpoint.step == checkpoints.back().step;
    for (const StudentSteps& grid : WithOwnGrid(e, last ? fewer : std::vector<StudentSteps>())) {
      if (evaluation.Has(checkpoint.step, grid)) continue;
      const auto arm = evaluation.Measure(checkpoint, grid);
      if (arm && last) Show(run.Evaluation(), StrCat("student-", grid.size()), *arm, evaluation.prompts());
    }
  }
}

void EvaluateBaselines(const LaunchPlan& plan, const EvaluationSettings& settings,
                       const std::vector<StudentSteps>& fewer) {
  const Experiment& e = plan.experiment;
  Baselines baselines(plan, settings);
  const Reference& reference = baselines.reference();
  Arm data{"data", nullptr, {}, 1.0, reference.Data("evaluation_data")};
  baselines.Measure("data", data);
  baselines.Measure("teacher", reference.arm());
  baselines.Measure("teacher-again", reference.again());
  Arm guided = FewStepArm(e, e.schedule.student_steps, reference.teacher(), "teacher", reference.guidance());
  reference.Draw(guided);
  baselines.Measure(StrCat("teacher-", e.schedule.student_steps.size()), guided);
  const WanExperts untrained = WanExperts::Load(FindExperts(ModelOf(e, Role::kGenerator), e.model.boundary), at::kCPU);
  for (const StudentSteps& grid : WithOwnGrid(e, fewer)) {
    Arm base = StudentArm(e, grid, untrained, "untrained student");
    reference.Draw(base);
    baselines.Measure(StrCat("base-", grid.size()), base);
  }
  baselines.Save();
}

}  // namespace sgmd
