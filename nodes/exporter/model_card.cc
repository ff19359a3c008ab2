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

// A model whose latents are the pixels themselves: no VAE goes with it, and no pipeline of other tools.
bool InRgb(const StudentSource& s) { return s.config.in_dim == 3; }

// What ComfyUI and LightX2V take for granted in a Wan model: patches of 1 x 2 x 2, heads of 128, umT5's 4096, a Wan
// VAE.
bool RunsInWanTools(const StudentSource& s) {
  const WanConfig& c = s.config;
  return c.patch_size == std::array<std::int64_t, 3>{1, 2, 2} && c.dim == 128 * c.num_heads && c.text_dim == 4096 &&
         (c.in_dim == 16 || c.in_dim == 48);
}

// The published model that has these sizes, as Hugging Face names it; empty where there is none. The two Wan models of
// 14B have the same: the folder that the student started from tells them apart.
std::string PublishedBase(const StudentSource& s) {
  const WanConfig& c = s.config;
  const auto has = [&](std::int64_t dim, std::int64_t ffn, std::int64_t layers, std::int64_t channels) {
    return c.dim == dim && c.ffn_dim == ffn && c.num_layers == layers && c.in_dim == channels;
  };
  const std::string start = s.experiment ? ModelOf(*s.experiment, Role::kGenerator).string() : "";
  if (has(1536, 8960, 30, 16)) return "Wan-AI/Wan2.1-T2V-1.3B-Diffusers";
  if (has(3072, 14336, 30, 48)) return "Wan-AI/Wan2.2-TI2V-5B-Diffusers";
  if (!has(5120, 13824, 40, 16)) return "";
  return start.find("A14B") != start.npos ? "Wan-AI/Wan2.2-T2V-A14B-Diffusers" : "Wan-AI/Wan2.1-T2V-14B-Diffusers";
}

// The licence is that of Wan's own weights, which others of other sizes need not have.
std::string FrontMatter(const StudentSource& s, ExportForm form) {
  const std::string base = PublishedBase(s);
  std::string text = "---\n";
  if (!base.empty()) {
    text += StrCat("license: apache-2.0\nbase_model: ", base,
                   "\nbase_model_relation: ", form == ExportForm::kLora ? "adapter" : "finetune", "\n");
  }
  if (!InRgb(s)) text += "library_name: diffusers\n";
  return text + "pipeline_tag: text-to-video\ntags: [wan, sgmd]\n---\n";
}

// Only what the files say: an export may be of a teacher.
std::string Origin(const StudentSource& s, ExportForm form, const StudentSchedule& schedule) {
  if (s.experiment) {
    const Objective objective = s.experiment->objective.name;
    const std::string model = StrCat(schedule.steps.size(), "-step text-to-video transformer of the Wan family");
    return StrCat(form == ExportForm::kLora ? "Adapters (LoRA) that make of their base a " : "A ", model,
                  ", distilled by sgmd with the ", Spell(objective), " objective",
                  objective == Objective::kSgmd ? " (Score Gradient Matching Distillation, arXiv 2605.30116)" : "",
                  ".");
  }
  if (!s.kind.empty()) return "A few-step text-to-video transformer of the Wan family, distilled by sgmd.";
  return "A text-to-video transformer of the Wan family. Its files do not say how it was made; the settings below are "
         "for 4-step students.";
}

std::string Adapters(const StudentSource& s, ExportForm form) {
  if (!s.experiment || s.experiment->lora.rank == 0) return "";
  const Experiment& e = *s.experiment;
  std::string text =
      StrCat("| base | ", ModelOf(e, Role::kGenerator).filename().string(), " |\n| trained | LoRA of rank ",
             e.lora.rank, ", alpha ", e.lora.alpha, ", on ", List(e.lora.targets));
  if (form != ExportForm::kLora) return text + "; merged into these weights |\n";
  return text + " of every block |\n| strength | 1.0: alpha / rank is folded into the weights |\n";
}

std::string WhatItIs(const StudentSource& s, ExportForm form, const StudentSchedule& schedule, const std::string& name,
                     DType dtype) {
  std::string text = StrCat("# ", name, "\n\n", Origin(s, form, schedule), "\n\n| | |\n|---|---|\n");
  const WanConfig& c = s.config;
  if (s.experiment && !s.experiment->model.student.empty()) {
    const auto& model = s.experiment->model;
    text += StrCat("| teacher | ", model.teacher.filename().string(), " |\n| started from | ",
                   model.student.filename().string(), " |\n");
  }
  text += StrCat("| weights | ",
                 s.kind == "ema"   ? "exponential moving average"
                 : s.kind == "raw" ? "as trained, not averaged"
                                   : "as given",
                 ", ", dtype == DType::kBF16 ? "bfloat16" : "float32", " |\n", Adapters(s, form));
  if (s.step) text += StrCat("| updates | ", *s.step, " |\n");
  text += StrCat("| sizes | dim ", c.dim, ", ", c.num_heads, " heads, ", c.num_layers, " layers, ffn ", c.ffn_dim, ", ",
                 c.in_dim, " latent channels, patch ", List(c.patch_size), ", text ", c.text_len, " x ", c.text_dim,
                 " |\n");
  return text + "\n";
}

constexpr char kUneven[] =
    " These steps are not evenly spaced and cannot be reached by its schedule: give it the sigmas above.";

// What is needed of diffusers' scheduler for the student's sigmas.
std::string UniPc(const StudentSchedule& schedule) {
  std::vector<std::size_t> uncorrected;
  for (std::size_t i = 0; i + 1 < schedule.steps.size(); ++i) uncorrected.push_back(i);
  return StrCat("UniPCMultistepScheduler(prediction_type=\"flow_prediction\", use_flow_sigmas=True, flow_shift=",
                schedule.shift, ", solver_order=1, disable_corrector=", List(uncorrected), ")");
}

std::string DiffusersRow(ExportForm form, const std::string& name, const StudentSchedule& schedule) {
  std::string text = "| diffusers | ";
  if (form == ExportForm::kLora) {
    text += StrCat("`load_lora_weights(folder, weight_name=\"", name, "\")`, adapter weight 1.0; ");
  }
  return text + StrCat("`num_inference_steps=", schedule.steps.size(), ", guidance_scale=1.0`; `", UniPc(schedule),
                       "`. `FlowMatchEulerDiscreteScheduler` does not give these sigmas; this one is within 0.001 of "
                       "them.",
                       schedule.IsEven() ? "" : kUneven, " |\n");
}

std::string WanToolRows(ExportForm form, const std::string& name, const StudentSchedule& schedule) {
  const std::size_t n = schedule.steps.size();
  const bool lora = form == ExportForm::kLora;
  return StrCat("| LightX2V | `\"infer_steps\": ", n, ", \"denoising_step_list\": ", List(schedule.steps),
                ", \"sample_shift\": ", schedule.shift, ", \"enable_cfg\": false`; ",
                lora ? "the base as it is, and `\"lora_configs\": [{\"path\": \"" + name + "\", \"strength\": 1.0}]`"
                     : "the original-named file as `dit_original_ckpt`",
                " |\n| ComfyUI | ",
                lora ? "file in `models/loras`; `LoraLoaderModelOnly` after the base model, strength_model 1.0"
                     : "original-named file in `models/diffusion_models`",
                "; steps ", n, ", sampler `euler`, scheduler `simple`, ModelSamplingSD3 shift ", schedule.shift,
                ", cfg 1.0", schedule.IsEven() ? "" : StrCat(".", kUneven), " |\n");
}

// A row a tool that can run the model: where the file goes there, and how it is sampled.
std::string Tools(const StudentSource& s, ExportForm form, const std::string& name, const StudentSchedule& schedule) {
  std::string text = "| tool | settings |\n|---|---|\n";
  if (!InRgb(s)) text += DiffusersRow(form, name, schedule);
  if (RunsInWanTools(s)) text += WanToolRows(form, name, schedule);
  if (form != ExportForm::kLora) {
    text += "| sgmd | `sgmd-sample --model " + name + " --student-steps";
    for (const std::int64_t step : schedule.steps) text += StrCat(" ", step);
    text += StrCat(" --shift ", schedule.shift, "` |\n");
  }
  if (RunsInWanTools(s)) return text + "\n";
  return text + (InRgb(s) ? "\nIts latents are pixels (RGB) and its sizes are its own: tools that are made for "
                            "Wan's published models do not run it.\n\n"
                          : "\nTools that take the sizes of Wan's published models for granted do not run it.\n\n");
}

std::string InDiffusers(ExportForm form, const std::string& name, const StudentSchedule& schedule) {
  const std::string call = StrCat("video = pipe(prompt, num_inference_steps=", schedule.steps.size(),
                                  ", guidance_scale=1.0).frames[0]\n```\n\n");
  switch (form) {
    case ExportForm::kDiffusers:
      return "```python\nfrom diffusers import WanPipeline\npipe = WanPipeline.from_pretrained(\"<this folder>\")\n" +
             call;
    case ExportForm::kLora:
      return StrCat(
          "```python\nfrom diffusers import UniPCMultistepScheduler, WanPipeline\n"
          "pipe = WanPipeline.from_pretrained(\"<Diffusers folder of the base>\")\n"
          "pipe.load_lora_weights(\"<this folder>\", weight_name=\"",
          name, "\")\npipe.scheduler = ", UniPc(schedule), "\n", call);
    case ExportForm::kOriginal:
      return "diffusers: `WanTransformer3DModel.from_single_file(file, config=<folder with a Diffusers config.json>)`; "
             "without `config=` only the sizes of 1.3B and 14B are recognised.\n\n";
  }
  return "";
}

std::string HowToRun(const StudentSource& student, ExportForm form, const std::string& name,
                     const std::vector<std::string>& missing) {
  const StudentSchedule schedule = StudentSchedule::Of(student);
  std::string text =
      StrCat("## Settings\n\nNo guidance: one conditional pass a step (guidance scale 1). Euler over sigma = ",
             List(StudentSigmas(schedule.steps, schedule.shift)), " (timesteps ", List(schedule.steps), ", shift ",
             schedule.shift, "). Prompts are padded with zero embeddings to ", student.config.text_len, " rows.",
             student.experiment ? "" : " The source does not tell its schedule: this is the published one.", "\n\n",
             Tools(student, form, name, schedule), InRgb(student) ? "" : InDiffusers(form, name, schedule));
  if (missing.empty()) return text;
  return text + "**Not in this folder:** " + List(missing) +
         ". Put in those of the base model (`sgmd-export --base <Diffusers folder>`), or pass them to "
         "`from_pretrained`.\n\n";
}

std::string Recipe(const StudentSource& s) {
  if (!s.experiment) return "";
  Experiment e = *s.experiment;
  std::string text =
      StrCat("## Recipe\n\nThe teacher was guided as `u + w (c - u)` on the velocity, w = ", e.model.guidance,
             " (w = 1 is the conditional pass alone; code that writes `c + s (c - u)` means s = w - 1).\n\n");
  for (std::filesystem::path* path : {&e.model.teacher, &e.model.student, &e.model.fake_score, &e.model.prompts})
    *path = path->filename();  // folders of the machine it was made on are nobody's business
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
                            chosen.contains("samples") ? " on " + chosen["samples"].dump() + " videos" : "",
                            ", with 95 % confidence intervals.\n\n| measure | value |\n|---|---|\n");
  for (const auto& [name, value] : chosen.items()) {
    const bool bound = name.ends_with("_low") || name.ends_with("_high");
    if (!value.is_number() || bound || name == "step" || name == "samples") continue;
    text += StrCat("| ", name, " | ", value.get<double>());
    if (chosen.contains(name + "_low")) {
      text += StrCat(" [", chosen[name + "_low"].get<double>(), ", ", chosen[name + "_high"].get<double>(), "]");
    }
    text += " |\n";
  }
  return text + "\n";
}

}  // namespace

StudentSchedule StudentSchedule::Of(const StudentSource& student) {
  if (!student.experiment) return {};
  return {student.experiment->schedule.student_steps, student.experiment->schedule.student_shift};
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
  return FrontMatter(student, form) + kCardMark + "\n" + WhatItIs(student, form, schedule, name, dtype) +
         HowToRun(student, form, name, missing) + Recipe(student) + Figures(student);
}

}  // namespace sgmd
