#include "nodes/evaluator/comparison.h"

#include <ATen/ATen.h>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "nodes/evaluator/arms.h"
#include "nodes/evaluator/measures.h"
#include "pipeline/evaluation/ball_track.h"
#include "pipeline/evaluation/video_file.h"

namespace sgmd {
namespace {

struct Column {
  std::string title;
  Measures measures;
};

// The figures' names as a reader sees them, in the order of Measures.
constexpr const char* kRows[] = {
    "Fréchet to teacher", "Fréchet to data", "speed distance", "mean speed", "share fast", "flow",
    "dynamic degree",     "consistency",     "jitter",         "mass"};

std::string Table(const std::vector<Column>& columns) {
  std::string head = "| |", rule = "|---|", rows;
  for (const Column& column : columns) {
    head += " " + column.title + " |";
    rule += "---|";
  }
  for (std::size_t row = 0; row < columns[0].measures.names.size(); ++row) {
    rows += StrCat("| ", kRows[row], " |");
    for (const Column& column : columns) rows += " " + Text(column.measures.estimates[row]) + " |";
    rows += "\n";
  }
  return head + "\n" + rule + "\n" + rows;
}

std::string Settings(const ComparisonOptions& o) {
  return StrCat("# ", o.experiment.name, "\n\nObjective `", Spell(o.experiment.objective.name), "`, guidance ",
                GuidanceOf(o.experiment).Formula(), ", student steps at shift ", o.experiment.schedule.student_shift,
                ". ", o.evaluation.samples, " videos a column, each prompt equally often; in brackets ",
                100 * kCoverage, " % confidence intervals.\n\n");
}

std::string Explanation(const ComparisonOptions& o) {
  return StrCat(
      "\nThe reference is the teacher with ", o.evaluation.teacher_steps,
      " steps. All other columns start from noise that the reference has not seen, the teacher drawn again too: its "
      "distances to the reference are what chance alone gives, and the floor for a student's. So are those of this "
      "data to the other data that Fréchet distances are measured to. Intervals: bootstrap over videos, ",
      kResamples,
      " resamples of both sides; they tell the spread between such draws. Speed distance: Wasserstein-1 between the "
      "speeds, px a frame. Fast: above ",
      kFastSpeed,
      " px a frame (the data's slow balls end at 0.2, the fast ones begin at 0.6). Flow: mean optical flow of what is "
      "not background, px a frame; dynamic degree: share of videos above ",
      kDynamicFlow,
      ". Consistency: 1 - warp error / contrast. Jitter: mean second difference of the track. Mass: summed "
      "brightness, a whole ball keeps it.\n\n");
}

void Show(const std::filesystem::path& folder, const PictureGrid& all, const PictureGrid& student) {
  std::filesystem::create_directories(folder);
  WritePng(folder / "contact_sheet.png", Strips(all, kEnlarge));
  WriteVideo(folder / "comparison.gif", Moving(all, 2 * kEnlarge), kFramesPerSecond);
  WriteVideo(folder / "student.gif", Moving(student, kEnlarge), kFramesPerSecond);
}

constexpr char kPictures[] =
    "In a row, the same prompt and the same noise.\n\n![frames](videos/contact_sheet.png)\n\n"
    "![motion](videos/comparison.gif)\n";

}  // namespace

void CompareWithTeacher(const ComparisonOptions& o) {
  const Experiment& e = o.experiment;
  const WanExperts student = WanExperts::Load(FindExperts(o.student, e.model.boundary), at::kCPU);
  const Reference reference(e, o.evaluation);
  reference.RequireFits(student);
  Arm few = FewStepArm(e, e.schedule.student_steps, reference.teacher(), "teacher", reference.guidance());
  Arm distilled = StudentArm(e, e.schedule.student_steps, student);
  for (Arm* arm : {&few, &distilled}) reference.Draw(*arm);
  const Measurer& measurer = reference.measurer();
  const std::vector<Column> columns{{"data", measurer.Of(reference.Data("evaluation_data"))},
                                    {reference.arm().title + " (reference)", measurer.OfTeacher()},
                                    {reference.again().title + ", other noise (floor)", reference.floor()},
                                    {few.title, measurer.Of(few.videos)},
                                    {distilled.title, measurer.Of(distilled.videos)}};
  const std::vector<const Arm*> shown{&reference.again(), &few, &distilled};
  Show(o.out / "videos", GridOf(shown, reference.prompts()),
       GridOf({&reference.again(), &distilled}, reference.prompts()).Transposed());
  WriteFileAtomically(o.out / "report.md", Settings(o) + Table(columns) + Explanation(o) + kPictures);
  LogInfo("report in ", (o.out / "report.md").string());
}

}  // namespace sgmd
