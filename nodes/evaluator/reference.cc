#include "nodes/evaluator/reference.h"

#include <ATen/ATen.h>

#include "common/error/error.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/flow/random.h"

namespace sgmd {

EvaluationSettings SettingsOf(const Topology& t) {
  return {.features = t.evaluator.features,
          .samples = t.evaluator.samples,
          .teacher_steps = t.evaluator.teacher_steps,
          .reference = RunFolder{t.run.folder}.Evaluation() / "teacher.safetensors"};
}

Reference::Reference(const Experiment& experiment, EvaluationSettings settings)
    : experiment_(experiment),
      settings_(std::move(settings)),
      bank_(PromptBank::Open(experiment.model.prompts)),
      teacher_(WanExperts::Load(FindExperts(experiment.model.teacher, experiment.model.boundary), at::kCPU)),
      arm_(TeacherArm(experiment, teacher_, settings_.teacher_steps, guidance())),
      again_(arm_),
      measurer_(MakeMeasurer()),
      floor_(measurer_.Of(again_.videos)) {}

// All that decides the teacher's videos.
std::string Reference::Identity() const {
  const Experiment& e = experiment_;
  std::string what =
      StrCat("two sets of ", ModelDigest(e.model.teacher).Hex(), " prompts ", DigestFile(e.model.prompts).Hex(),
             " guidance ", guidance().Text(), " shift ", e.schedule.student_shift, " steps ", settings_.teacher_steps,
             " samples ", settings_.samples, " seed ", settings_.seed);
  for (const std::int64_t size : e.data.latent) what += StrCat(" ", size);
  if (HasTwoExperts(e)) what += StrCat(" boundary ", e.model.boundary);
  return what;
}

Measurer Reference::MakeMeasurer() {
  const Experiment& e = experiment_;
  RequireFits(teacher_);
  if (teacher_.config().out_dim != 3)
    throw Error("only models of the embedded RGB data can be evaluated so far", e.model.teacher.string());
  const VideoFeatures features = LoadVideoFeatures(settings_.features);
  RequireEnoughVideos(settings_.samples, features(Data("evaluation_reference").slice(0, 0, 1)).size(1));
  const std::filesystem::path& file = settings_.reference;
  if (std::filesystem::exists(file) && SafetensorsFile::Open(file).metadata().at("sgmd.reference") == Identity()) {
    arm_.videos = CopyToTensor(SafetensorsFile::Open(file).At("videos"));
    again_.videos = CopyToTensor(SafetensorsFile::Open(file).At("again"));
  } else {
    Draw(arm_, settings_.seed);
    Draw(again_);
    std::filesystem::create_directories(file.parent_path());
    SaveTensors(file, {{"videos", arm_.videos}, {"again", again_.videos}}, {{"sgmd.reference", Identity()}});
  }
  return Measurer(features, arm_.videos, Data("evaluation_reference"), static_cast<std::int64_t>(prompts().size()),
                  settings_.seed);
}

void Reference::Draw(Arm& arm, std::uint64_t seed) const {
  DrawVideos(experiment_, bank_, settings_.samples, seed, arm);
}

at::Tensor Reference::Data(const char* purpose) const {
  const BouncingBallsShape shape{experiment_.data.latent[1], experiment_.data.latent[2], experiment_.data.latent[3]};
  return DrawBallsInTurn(shape, settings_.samples, SeedFor(settings_.seed, 0, 0, purpose)).video;
}

}  // namespace sgmd
