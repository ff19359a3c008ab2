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
      teacher_(WanTransformer::Load(experiment.model.teacher, at::kCPU)),
      arm_(TeacherArm(experiment, teacher_, settings_.teacher_steps)),
      measurer_(MakeMeasurer()) {}

Measurer Reference::MakeMeasurer() {
  const Experiment& e = experiment_;
  bank_.RequireFits(teacher_.config().text_dim, teacher_.config().text_len);
  if (teacher_.config().out_dim != 3)
    throw Error("only models of the embedded RGB data can be evaluated so far", e.model.teacher.string());
  std::string what = StrCat(ModelDigest(e.model.teacher).Hex(), " prompts ", DigestFile(e.model.prompts).Hex(),
                            " guidance ", e.model.guidance, " shift ", e.schedule.student_shift, " steps ",
                            settings_.teacher_steps, " samples ", settings_.samples, " seed ", settings_.seed);
  for (const std::int64_t size : e.data.latent) what += StrCat(" ", size);
  const std::filesystem::path& file = settings_.reference;
  if (std::filesystem::exists(file) && SafetensorsFile::Open(file).metadata().at("sgmd.reference") == what) {
    arm_.videos = CopyToTensor(SafetensorsFile::Open(file).At("videos"));
  } else {
    Draw(arm_);
    std::filesystem::create_directories(file.parent_path());
    SaveTensors(file, {{"videos", arm_.videos}}, {{"sgmd.reference", what}});
  }
  return Measurer(LoadVideoFeatures(settings_.features), arm_.videos, Data("evaluation_reference"));
}

void Reference::Draw(Arm& arm, std::uint64_t seed) const {
  DrawVideos(experiment_, bank_, settings_.samples, seed, arm);
}

at::Tensor Reference::Data(const char* purpose) const {
  const BouncingBallsShape shape{experiment_.data.latent[1], experiment_.data.latent[2], experiment_.data.latent[3]};
  return DrawBouncingBalls(shape, settings_.samples, SeedFor(settings_.seed, 0, 0, purpose)).video;
}

}  // namespace sgmd
