#include "nodes/evaluator/comparison.h"

#include <ATen/ATen.h>

#include <cstdio>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "nodes/evaluator/arms.h"
#include "nodes/evaluator/measures.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

std::string TableRow(const std::string& name, const Measures& m) {
  std::string line = "| " + name;
  for (const auto& [tag, value] : m.Named()) {
    char cell[32];
    std::snprintf(cell, sizeof cell, " | %.3f", value);
    line += cell;
  }
  return line + " |\n";
}

std::string Report(const ComparisonOptions& o, const std::vector<const Arm*>& arms) {
  const BouncingBallsShape shape{o.experiment.data.latent[1], o.experiment.data.latent[2], o.experiment.data.latent[3]};
  const auto data = [&](const char* purpose) {
    return DrawBouncingBalls(shape, o.samples, SeedFor(o.seed, 0, 0, purpose)).video;
  };
  const Measurer measurer(LoadVideoFeatures(o.features), arms[0]->videos, data("evaluation_reference"));
  std::string text =
      StrCat("# ", o.experiment.name, "\n\nObjective `", Spell(o.experiment.objective.name), "`, guidance u + ",
             o.experiment.model.guidance, " (c - u), student steps at shift ", o.experiment.schedule.student_shift,
             ", ", o.samples, " videos an arm, the same noise and prompts for all arms.\n\n");
  text +=
      "| | Fréchet to teacher | Fréchet to data | speed distance | mean speed | share fast | flow | dynamic degree | "
      "consistency | jitter | mass |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
  text += TableRow("data", measurer.Of(data("evaluation_data")));
  for (const Arm* arm : arms) text += TableRow(arm->title, measurer.Of(arm->videos));
  text += StrCat(
      "\nThe teacher with ", o.teacher_steps,
      " steps is the reference: its distances to itself are 0, and two sets of the "
      "data's own videos show how small a Fréchet distance can be with so few videos. Speed distance: Wasserstein-1 "
      "between the "
      "speeds, px a frame. Fast: above ",
      kFastSpeed,
      " px a frame (the data's slow balls end at 0.2, the fast ones begin at "
      "0.6). Flow: mean optical flow of what is not background, px a frame; dynamic degree: share of videos above ",
      kDynamicFlow,
      ". Consistency: 1 - warp error / contrast. Jitter: mean second difference of the track. Mass: summed "
      "brightness, a whole ball keeps it.\n\nFrom left to right: ");
  for (const Arm* arm : arms) text += (arm == arms[0] ? "" : " | ") + arm->title;
  text += "; one row a prompt.\n\n![frames](videos/contact_sheet.png)\n\n![motion](videos/comparison.gif)\n";
  return text;
}

}  // namespace

void CompareWithTeacher(const ComparisonOptions& o) {
  const Experiment& e = o.experiment;
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  const WanTransformer teacher = WanTransformer::Load(e.model.teacher, at::kCPU);
  const WanTransformer student = WanTransformer::Load(o.student, at::kCPU);
  for (const WanTransformer* model : {&teacher, &student}) {
    bank.RequireFits(model->config().text_dim, model->config().text_len);
  }
  if (teacher.config().out_dim != 3)
    throw Error("only models of the embedded RGB data can be compared so far", e.model.teacher.string());
  Arm many = TeacherArm(e, teacher, o.teacher_steps),
      few = FewStepArm(e, e.schedule.student_steps, teacher, "teacher", e.model.guidance);
  Arm distilled = FewStepArm(e, e.schedule.student_steps, student, "student", 1.0);
  const std::vector<const Arm*> arms{&many, &few, &distilled};
  for (Arm* arm : {&many, &few, &distilled}) DrawVideos(e, bank, o.samples, o.seed, *arm);
  std::filesystem::create_directories(o.out / "videos");
  const auto rows = static_cast<std::int64_t>(bank.prompts().size());
  WritePng(o.out / "videos" / "contact_sheet.png", Mosaic(arms, rows, /*frames_in_a_row=*/true)[0]);
  WriteVideo(o.out / "videos" / "comparison.gif", Mosaic(arms, rows, /*frames_in_a_row=*/false), kFramesPerSecond);
  WriteFileAtomically(o.out / "report.md", Report(o, arms));
  LogInfo("report in ", (o.out / "report.md").string());
}

}  // namespace sgmd
