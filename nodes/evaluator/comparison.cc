#include "nodes/evaluator/comparison.h"

#include <ATen/ATen.h>

#include <cstdio>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/progress.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/evaluation/ball_track.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"

namespace sgmd {
namespace {

constexpr std::int64_t kBatch = 64;
constexpr std::int64_t kEnlarge = 8;
constexpr double kFramesPerSecond = 8;

struct Arm {
  std::string title;
  const WanTransformer* model = nullptr;
  std::vector<double> sigmas;
  double guidance = 1.0;
  at::Tensor videos;  // [samples, 3, F, H, W]
};

// All arms see the same noise and prompts.
void Draw(const ComparisonOptions& o, const PromptBank& bank, Arm& arm) {
  ProgressLine progress("sampling: " + arm.title, o.samples);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < o.samples; first += kBatch) {
    const std::int64_t count = std::min(kBatch, o.samples - first);
    std::vector<std::int64_t> shape{count};
    shape.insert(shape.end(), o.experiment.latent.begin(), o.experiment.latent.end());
    std::vector<Digest> prompts;
    for (std::int64_t i = 0; i < count; ++i) prompts.push_back(bank.prompts()[(first + i) % bank.prompts().size()]);
    const std::int64_t text_len = arm.model->config().text_len;
    batches.push_back(EulerSample(*arm.model, Noise(shape, SeedFor(o.seed, 0, first, "evaluation_noise")), arm.sigmas,
                                  bank.Gather(prompts, text_len), bank.GatherNegative(count, text_len), arm.guidance));
    progress.Update(first + count);
  }
  arm.videos = at::cat(batches);
}

// One row a prompt; the arms side by side, separated by a grey line.
at::Tensor Mosaic(const std::vector<Arm>& arms, std::int64_t rows, bool frames_in_a_row) {
  std::vector<at::Tensor> lines;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::vector<at::Tensor> cells;
    for (const Arm& arm : arms) {
      at::Tensor rgb = EnlargeToRgb(arm.videos.slice(0, row, row + 1), kEnlarge)[0];  // [F, H, W, 3]
      if (frames_in_a_row) rgb = at::cat(rgb.unbind(0), 1).unsqueeze(0);
      cells.push_back(at::constant_pad_nd(rgb, {0, 0, 2, 2, 2, 2}, 90));
    }
    lines.push_back(at::cat(cells, 2));
  }
  return at::cat(lines, 1);
}

std::string TableRow(const std::string& name, const MotionSummary& m) {
  char line[256];
  std::snprintf(line, sizeof line, "| %s | %.3f | %.3f | %.4f | %.3f | %.2f |\n", name.c_str(), m.mean_speed,
                m.fast_share, m.speed_distance, m.jitter, m.mass);
  return line;
}

std::string Report(const ComparisonOptions& o, const std::vector<Arm>& arms) {
  const at::Tensor teacher_speed = TrackBalls(arms[0].videos).speed;
  const auto data = DrawBouncingBalls({o.experiment.latent[1], o.experiment.latent[2], o.experiment.latent[3]}, o.samples,
                                      SeedFor(o.seed, 0, 0, "evaluation_data"));
  std::string text = StrCat("# ", o.experiment.name, "\n\nObjective `", o.experiment.objective, "`, guidance u + ",
                            o.experiment.guidance, " (c - u), student steps at shift ", o.experiment.student_shift, ", ",
                            o.samples, " videos an arm, the same noise and prompts for all arms.\n\n");
  text += "| | mean speed (px/frame) | share of fast videos | speed distance to the teacher | jitter | mass |\n"
          "|---|---|---|---|---|---|\n";
  text += TableRow("data", Summarise(TrackBalls(data.video), teacher_speed));
  for (const Arm& arm : arms) text += TableRow(arm.title, Summarise(TrackBalls(arm.videos), teacher_speed));
  text += StrCat("\nFast: faster than ", kFastSpeed, " px a frame (the data's slow balls end at 0.2, the fast ones begin at 0.6). "
                 "Speed distance: Wasserstein-1 between the speeds. Mass: summed brightness, a whole ball keeps it.\n\n"
                 "From left to right: ");
  for (const Arm& arm : arms) text += (&arm == &arms[0] ? "" : " | ") + arm.title;
  text += "; one row a prompt.\n\n![frames](videos/contact_sheet.png)\n\n![motion](videos/comparison.gif)\n";
  return text;
}

}  // namespace

void CompareWithTeacher(const ComparisonOptions& o) {
  const Experiment& e = o.experiment;
  const PromptBank bank = PromptBank::Open(e.prompts);
  const WanTransformer teacher = WanTransformer::Load(e.teacher, at::kCPU);
  const WanTransformer student = WanTransformer::Load(o.student, at::kCPU);
  if (teacher.config().out_dim != 3) throw Error("only models of the embedded RGB data can be compared so far", e.teacher.string());
  const std::vector<double> grid = StudentSigmas(e.student_steps, e.student_shift);
  const std::string few = std::to_string(e.student_steps.size());
  std::vector<Arm> arms{
      {StrCat("teacher ", o.teacher_steps, " steps"), &teacher, UniformSigmas(o.teacher_steps, e.student_shift), e.guidance, {}},
      {"teacher " + few + " steps", &teacher, grid, e.guidance, {}},
      {"student " + few + " steps", &student, grid, 1.0, {}}};
  for (Arm& arm : arms) Draw(o, bank, arm);
  std::filesystem::create_directories(o.out / "videos");
  const auto rows = static_cast<std::int64_t>(bank.prompts().size());
  WritePng(o.out / "videos" / "contact_sheet.png", Mosaic(arms, rows, /*frames_in_a_row=*/true)[0]);
  WriteVideo(o.out / "videos" / "comparison.gif", Mosaic(arms, rows, /*frames_in_a_row=*/false), kFramesPerSecond);
  WriteFileAtomically(o.out / "report.md", Report(o, arms));
  LogInfo("report in ", (o.out / "report.md").string());
}

}  // namespace sgmd
