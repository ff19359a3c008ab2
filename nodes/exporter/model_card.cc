#include "nodes/exporter/model_card.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/role_experts.h"

namespace sgmd {
namespace {

// The published model that has these sizes, as Hugging Face names it; empty where there is none. The two Wan models of
// 14B have the same: two experts, or the folder that the student started from, tell them apart.
std::string PublishedBase(const StudentSource& s) {
  const WanConfig& c = s.config;
  const auto has = [&](std::int64_t dim, std::int64_t ffn, std::int64_t layers, std::int64_t channels) {
    return c.dim == dim && c.ffn_dim == ffn && c.num_layers == layers && c.in_dim == channels;
  };
  const std::string start = s.experiment ? ModelOf(*s.experiment, Role::kGenerator).string() : "";
  if (has(1536, 8960, 30, 16)) return "Wan-AI/Wan2.1-T2V-1.3B-Diffusers";
  if (has(3072, 14336, 30, 48)) return "Wan-AI/Wan2.2-TI2V-5B-Diffusers";
  if (has(5120, 13824, 40, 36)) {
    if (!c.takes_clip()) return "Wan-AI/Wan2.2-I2V-A14B-Diffusers";
    return StrCat("Wan-AI/Wan2.1-I2V-14B-", start.find("720") == start.npos ? "480P" : "720P", "-Diffusers");
  }
  if (!has(5120, 13824, 40, 16)) return "";
  return s.has_two_experts() || start.find("A14B") != start.npos ? "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
                                                                 : "Wan-AI/Wan2.1-T2V-14B-Diffusers";
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
  return text + StrCat("pipeline_tag: ", TaskOf(s), "\ntags: [wan, sgmd]\n---\n");
}

// Only what the files say: an export may be of a teacher.
std::string Origin(const StudentSource& s, ExportForm form, const StudentSchedule& schedule) {
  if (s.experiment) {
    const Objective objective = s.experiment->objective.name;
    const std::string model = StrCat(schedule.steps.size(), "-step ", TaskOf(s), " transformer of the Wan family");
    return StrCat(form == ExportForm::kLora ? "Adapters (LoRA) that make of their base a " : "A ", model,
                  ", distilled by sgmd with the ", Spell(objective), " objective",
                  objective == Objective::kSgmd ? " (Score Gradient Matching Distillation, arXiv 2605.30116)" : "",
                  ".");
  }
  if (!s.kind.empty()) return StrCat("A few-step ", TaskOf(s), " transformer of the Wan family, distilled by sgmd.");
  return StrCat(s.begins_with_picture ? "An " : "A ", TaskOf(s),
                " transformer of the Wan family. Its files do not say how it was made; the settings below are for "
                "4-step students.");
}

std::string Adapters(const StudentSource& s, ExportForm form) {
  if (!s.experiment || s.experiment->lora.rank == 0) return "";
  const Experiment& e = *s.experiment;
  std::string text =
      StrCat("| base | ", ModelOf(e, Role::kGenerator).filename().string(), " |\n| trained | LoRA of rank ",
             e.lora.rank, ", alpha ", e.lora.alpha, ", on ", CardList(e.lora.targets));
  if (form != ExportForm::kLora) return text + "; merged into these weights |\n";
  return text + " of every block |\n| strength | 1.0: alpha / rank is folded into the weights |\n";
}

std::string Experts(const StudentSource& s) {
  if (!s.has_two_experts()) return "";
  const auto made = [&](const StudentExpert& expert) {
    if (!s.experiment) return "as given";
    return expert.trained ? "trained" : "of the base as it is, not trained";
  };
  return StrCat("| high-noise expert | for noise levels from the boundary ", s.boundary, " on; ",
                made(s.experts.front()), " |\n| low-noise expert | for those below; ", made(s.experts.back()), " |\n");
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
  text += Experts(s);
  if (s.step) text += StrCat("| updates | ", *s.step, " |\n");
  text += StrCat("| sizes | dim ", c.dim, ", ", c.num_heads, " heads, ", c.num_layers, " layers, ffn ", c.ffn_dim, ", ",
                 c.out_dim, " latent channels, patch ", CardList(c.patch_size), ", text ", c.text_len, " x ",
                 c.text_dim, " |\n");
  return text + "\n";
}

std::string Recipe(const StudentSource& s) {
  if (!s.experiment) return "";
  Experiment e = *s.experiment;
  std::string text =
      StrCat("## Recipe\n\nThe teacher was guided as `u + w (c - u)` on the velocity, w = ", GuidanceOf(e).Text(),
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

std::string ModelCard(const StudentSource& student, ExportForm form, const std::string& name, DType dtype,
                      const std::vector<std::string>& missing) {
  const StudentSchedule schedule = StudentSchedule::Of(student);
  return FrontMatter(student, form) + kCardMark + "\n" + WhatItIs(student, form, schedule, name, dtype) +
         SettingsSection(student, form, name, missing) + Recipe(student) + Figures(student);
}

}  // namespace sgmd
