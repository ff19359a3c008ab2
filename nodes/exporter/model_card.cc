#include "nodes/exporter/model_card.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

std::string List(const auto& values) {
  std::string text;
  for (const auto& value : values) text += StrCat(text.empty() ? "" : ", ", value);
  return "[" + text + "]";
}

std::string FrontMatter() {
  return "---\nlibrary_name: diffusers\npipeline_tag: text-to-video\ntags: [wan, sgmd, distillation, few-step]\n---\n";
}

std::string WhatItIs(const StudentSource& s, const StudentSchedule& schedule, const std::string& name, DType dtype) {
  std::string text = StrCat("# ", name, "\n\nA ", schedule.steps.size(),
                            "-step text-to-video transformer of the Wan family, distilled with Score Gradient Matching Distillation "
                            "(arXiv 2605.30116) by sgmd.\n\n| | |\n|---|---|\n");
  const WanConfig& c = s.config;
  text += StrCat("| weights | ", s.kind == "ema" ? "exponential moving average" : s.kind == "raw" ? "as trained, not averaged" : "as given",
                 ", ", dtype == DType::kBF16 ? "bfloat16" : "float32", " |\n");
  if (s.step) text += StrCat("| updates | ", *s.step, " |\n");
  text += StrCat("| sizes | dim ", c.dim, ", ", c.num_heads, " heads, ", c.num_layers, " layers, ffn ", c.ffn_dim, ", ", c.in_dim,
                 " latent channels, patch ", List(c.patch_size), ", text ", c.text_len, " x ", c.text_dim, " |\n");
  return text + "\n";
}

std::string HowToRun(const StudentSchedule& schedule, const WanConfig& config, ExportForm form, const std::vector<std::string>& missing) {
  const std::size_t n = schedule.steps.size();
  std::string text = StrCat("## Settings\n\nNo guidance: one conditional pass a step (guidance scale 1). Euler over sigma = ",
                            List(StudentSigmas(schedule.steps, schedule.shift)), " (timesteps ", List(schedule.steps), ", shift ",
                            schedule.shift, "). Prompts are padded with zero embeddings to ", config.text_len, " rows.\n\n| tool | settings |\n|---|---|\n");
  std::vector<std::size_t> uncorrected;
  for (std::size_t i = 0; i + 1 < n; ++i) uncorrected.push_back(i);
  const std::string uneven = " These steps are not evenly spaced and cannot be reached by its schedule: give it the sigmas above.";
  text += StrCat("| diffusers | `num_inference_steps=", n, ", guidance_scale=1.0`; `UniPCMultistepScheduler(prediction_type=\"flow_prediction\", "
                 "use_flow_sigmas=True, flow_shift=", schedule.shift, ", solver_order=1, disable_corrector=", List(uncorrected),
                 ")`. `FlowMatchEulerDiscreteScheduler` does not give these sigmas.", schedule.IsEven() ? "" : uneven, " |\n");
  text += StrCat("| LightX2V | `\"infer_steps\": ", n, ", \"denoising_step_list\": ", List(schedule.steps), ", \"sample_shift\": ", schedule.shift,
                 ", \"enable_cfg\": false`; the original-named file as `dit_original_ckpt` |\n");
  text += StrCat("| ComfyUI | original-named file in `models/diffusion_models`; steps ", n, ", sampler `euler`, scheduler `simple`, ModelSamplingSD3 shift ",
                 schedule.shift, ", cfg 1.0", schedule.IsEven() ? "" : "." + uneven, " |\n\n");
  if (form == ExportForm::kDiffusers) {
    text += "```python\nfrom diffusers import WanPipeline\npipe = WanPipeline.from_pretrained(\"<this folder>\")\n"
            "video = pipe(prompt, num_inference_steps=" + std::to_string(n) + ", guidance_scale=1.0).frames[0]\n```\n\n";
    if (!missing.empty()) {
      text += "**Not in this folder:** " + List(missing) + ". Put in those of the base model (`sgmd-export --base <Diffusers folder>`), "
              "or pass them to `from_pretrained`.\n\n";
    }
  } else {
    text += "diffusers: `WanTransformer3DModel.from_single_file(file, config=<folder with a Diffusers config.json>)`; without `config=` only "
            "the sizes of 1.3B and 14B are recognised.\n\n";
  }
  return text;
}

std::string Recipe(const StudentSource& s) {
  if (!s.experiment) return "";
  Experiment e = *s.experiment;
  std::string text = StrCat("## Recipe\n\nThe teacher was guided as `u + w (c - u)` on the velocity, w = ", e.guidance,
                            " (w = 1 is the conditional pass alone; code that writes `c + s (c - u)` means s = w - 1).\n\n");
  e.teacher = e.teacher.filename();  // folders of the machine it was made on are nobody's business
  e.prompts = e.prompts.filename();
  return text + "```toml\n" + ToToml(e) + "```\n\n";
}

// The line of the exported step, or else the last one.
std::string Figures(const StudentSource& s) {
  if (s.run.empty()) return "";
  std::ifstream file(RunFolder{s.run}.Evaluation() / "metrics.jsonl");
  nlohmann::ordered_json chosen;
  for (std::string line; std::getline(file, line);) {
    const auto figures = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!figures.is_object() || !figures.contains("step")) continue;
    chosen = figures;
    if (s.step && figures["step"] == *s.step) break;
  }
  if (chosen.is_null()) return "";
  std::string text = StrCat("## Figures\n\nMeasured by the run's evaluator after ", chosen["step"].dump(), " updates",
                            chosen.contains("samples") ? " on " + chosen["samples"].dump() + " videos" : "", ".\n\n| measure | value |\n|---|---|\n");
  for (const auto& [name, value] : chosen.items()) {
    if (value.is_number() && name != "step" && name != "samples") text += StrCat("| ", name, " | ", value.get<double>(), " |\n");
  }
  return text + "\n";
}

}  // namespace

StudentSchedule StudentSchedule::Of(const StudentSource& student) {
  if (!student.experiment) return {};
  return {student.experiment->student_steps, student.experiment->student_shift};
}

bool StudentSchedule::IsEven() const {
  const auto n = static_cast<std::int64_t>(steps.size());
  for (std::int64_t i = 0; i < n; ++i) {
    if (steps[i] * n != 1000 * (n - i)) return false;
  }
  return true;
}

std::string ModelCard(const StudentSource& student, ExportForm form, const std::string& name, DType dtype,
                      const std::vector<std::string>& missing) {
  const StudentSchedule schedule = StudentSchedule::Of(student);
  return FrontMatter() + kCardMark + "\n" + WhatItIs(student, schedule, name, dtype) +
         HowToRun(schedule, student.config, form, missing) + Recipe(student) + Figures(student);
}

}  // namespace sgmd
