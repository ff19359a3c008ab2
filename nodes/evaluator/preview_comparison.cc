#include "nodes/evaluator/preview_comparison.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "nodes/evaluator/picture_grid.h"
#include "pipeline/device/open_device.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

constexpr std::int64_t kShownFrames = 4, kShownHeight = 120;  // in the picture, of each video

// All that decides the teacher's latents.
std::string Identity(const Experiment& e, const Topology::Evaluator& settings, const PreviewSet& set) {
  std::string what = StrCat(
      "previews of ", ModelDigest(e.model.teacher).Hex(), " prompts ", DigestFile(e.model.prompts).Hex(), " guidance ",
      GuidanceOf(e).Text(), " shift ", e.schedule.student_shift, " steps ", settings.teacher_steps, " videos ",
      set.prompts().size(), " compute ", at::toString(set.precision().compute), " seed ", PreviewSet::kSeed);
  for (const std::int64_t size : e.data.latent) what += StrCat(" ", size);
  if (HasTwoExperts(e)) what += StrCat(" boundary ", e.model.boundary);
  return what;
}

// [F, H, W, 3] -> a few frames, small: float32 [3, F', h, w] in [-1, 1].
at::Tensor Thumbnails(const at::Tensor& frames) {
  const std::int64_t shown = std::min(kShownFrames, frames.size(0));
  const at::Tensor chosen = at::linspace(0, frames.size(0) - 1, shown, at::kDouble).round().to(at::kLong);
  const at::Tensor pixels = frames.index_select(0, chosen).permute({3, 0, 1, 2}).to(at::kFloat) / 127.5 - 1;
  const std::int64_t factor = std::max<std::int64_t>(1, pixels.size(2) / kShownHeight);
  return at::avg_pool3d(pixels.unsqueeze(0), {1, factor, factor})[0];
}

std::string Report(const Experiment& e, const Topology::Evaluator& settings, const std::vector<std::string>& prompts,
                   const Measures& measures) {
  std::string text =
      StrCat("# ", e.name, "\n\nThe student with ", e.schedule.student_steps.size(), " steps beside the teacher with ",
             settings.teacher_steps, " (guidance ", GuidanceOf(e).Formula(), "), ", prompts.size(),
             " prompts, from the same noise; in brackets ", 100 * kCoverage,
             " % confidence intervals over the choice of videos.\n\n| | student |\n|---|---|\n");
  for (std::size_t i = 0; i < measures.names.size(); ++i)
    text += StrCat("| ", measures.names[i], " | ", Text(measures.estimates[i]), " |\n");
  text +=
      "\nFlow: mean optical flow of what moves, px a frame; dynamic degree: share of videos whose flow is above 1/480 "
      "of the short side a frame. Consistency: 1 - warp error / contrast. Motion and colour: flow and saturation "
      "over the teacher's.\n\nTeacher on the left, student on the right:\n\n![frames](videos/student.png)\n\n";
  for (std::size_t i = 0; i < prompts.size(); ++i)
    text += StrCat(i + 1, ". [", prompts[i], "](videos/student-", i + 1, ".mp4)\n");
  return text;
}

}  // namespace

PreviewComparison::PreviewComparison(const Experiment& experiment, const Topology::Evaluator& settings,
                                     const std::filesystem::path& evaluation)
    : experiment_(experiment),
      set_(experiment, settings, OpenDevice(settings.device, {experiment.precision.deterministic})) {
  std::filesystem::create_directories(evaluation);
  for (const at::Tensor& latents : TeacherLatents(settings, evaluation)) {
    const at::Tensor pixels = set_.Decode(latents);
    Observe(pixels, teacher_);
    teacher_frames_.push_back(ToRgbFrames(pixels));
  }
}

std::vector<at::Tensor> PreviewComparison::TeacherLatents(const Topology::Evaluator& settings,
                                                          const std::filesystem::path& evaluation) const {
  const Experiment& e = experiment_;
  const std::filesystem::path file = evaluation / "teacher.safetensors";
  const std::string identity = Identity(e, settings, set_);
  if (std::filesystem::exists(file)) {
    const SafetensorsFile kept = SafetensorsFile::Open(file);
    const auto of = kept.metadata().find("sgmd.reference");
    if (of != kept.metadata().end() && of->second == identity) return CopyToTensor(kept.At("latents")).split(1);
  }
  const WanExperts teacher =
      WanExperts::Load(FindExperts(e.model.teacher, e.model.boundary), set_.device(), set_.precision());
  std::vector<at::Tensor> latents = set_.Draw(teacher, UniformSigmas(settings.teacher_steps, e.schedule.student_shift),
                                              GuidanceOf(e), StrCat("teacher ", settings.teacher_steps, " steps"));
  SaveTensors(file, {{"latents", at::cat(latents)}}, {{"sgmd.reference", identity}});
  return latents;
}

PreviewComparison::Compared PreviewComparison::Compare(const WanExperts& student, const std::string& title,
                                                       const std::filesystem::path& stem) const {
  const std::vector<at::Tensor> latents = set_.DrawStudent(student, title);
  std::filesystem::create_directories(stem.parent_path());
  PreviewRecords records;
  PictureGrid grid{{"teacher", "student"}, set_.prompts(), {}};
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const at::Tensor pixels = set_.Decode(latents[i]), frames = ToRgbFrames(pixels);
    Observe(pixels, records);
    WriteVideo(StrCat(stem.string(), "-", i + 1, ".mp4"), at::cat({teacher_frames_[i], frames}, 2),
               set_.frames_per_second());
    grid.cells.push_back({Thumbnails(teacher_frames_[i]), Thumbnails(frames)});
  }
  const at::Tensor picture = Strips(grid, 1);
  WritePng(stem.string() + ".png", picture);
  return {PreviewMeasures(records, teacher_, PreviewSet::kSeed), picture};
}

void CompareByPreviews(const LaunchPlan& plan, const Topology::Evaluator& settings,
                       const std::filesystem::path& student, const std::filesystem::path& out) {
  const PreviewComparison comparison(plan.experiment, settings, RunFolder{plan.topology.run.folder}.Evaluation());
  const PreviewSet& set = comparison.set();
  const auto experts = FindExperts(student, plan.experiment.model.boundary);
  const Measures measures =
      comparison
          .Compare(WanExperts::Load(experts, set.device(), set.precision()), "student", out / "videos" / "student")
          .measures;
  WriteFileAtomically(out / "report.md", Report(plan.experiment, settings, set.prompts(), measures));
  LogInfo("report in ", (out / "report.md").string());
}

}  // namespace sgmd
