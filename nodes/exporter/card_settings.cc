#include "nodes/exporter/card_settings.h"

#include <cmath>

#include "common/storage/model_folder.h"
#include "nodes/exporter/diffusers_scheduler.h"
#include "nodes/exporter/student_schedule.h"

namespace sgmd {
namespace {

constexpr char kUneven[] =
    " These steps are not evenly spaced and cannot be reached by its schedule: give it the sigmas above.";
// What diffusers' sampler does where a student is given new noise at each step.
constexpr char kNewNoise[] =
    " Its new noise comes from torch's own generator (`torch.manual_seed`), not the pipeline's.";

// What ComfyUI and LightX2V take for granted in a Wan model: patches of 1 x 2 x 2, heads of 128, umT5's 4096, a Wan
// VAE.
bool RunsInWanTools(const StudentSource& s) {
  const WanConfig& c = s.config;
  return c.patch_size == std::array<std::int64_t, 3>{1, 2, 2} && c.dim == 128 * c.num_heads && c.text_dim == 4096 &&
         (c.out_dim == 16 || c.out_dim == 48);
}

// What is said of one export.
struct Export {
  const StudentSource& student;
  ExportForm form;
  std::string name;  // the folder's or file's
  StudentSchedule schedule;

  std::size_t steps() const { return schedule.steps.size(); }
  /// Of two experts: the first step of the low-noise one.
  std::size_t split() const { return schedule.StepsFrom(student.boundary); }
  /// Of two experts: that of the file that holds one of them, here or with --original.
  std::string FileOf(const StudentExpert& expert) const {
    return ExpertFile(form == ExportForm::kDiffusers ? "student.safetensors" : name, expert.name).string();
  }
  /// A piece of text for each trained expert of two.
  template <typename Text>
  std::string EachTrained(const char* between, const Text& text) const {
    std::string all;
    for (const StudentExpert& expert : student.Trained()) all += (all.empty() ? "" : between) + text(expert);
    return all;
  }
};

const char* SideOf(const StudentExpert& expert) { return expert.name == kHighNoiseExpert ? "high" : "low"; }

// The call that loads an adapter file in diffusers; transformer_2 is the low-noise expert there.
std::string LoadLora(const std::string& folder, const Export& e, const StudentExpert& expert) {
  return StrCat("load_lora_weights(", folder, ", weight_name=\"", e.FileOf(expert), "\"",
                expert.name == kLowNoiseExpert ? ", load_into_transformer_2=True" : "", ")");
}

std::string DiffusersRow(const Export& e) {
  std::string text = "| diffusers | ";
  if (e.form == ExportForm::kLora) {
    text += e.EachTrained(", ", [&](const StudentExpert& x) { return "`" + LoadLora("folder", e, x) + "`"; }) +
            ", adapter weight 1.0; ";
  }
  if (e.student.has_two_experts()) text += StrCat("`boundary_ratio` ", e.student.boundary, "; ");
  const DiffusersScheduler scheduler = DiffusersScheduler::Of(e.schedule);
  text += StrCat("`num_inference_steps=", e.steps(), ", guidance_scale=1.0`; `", scheduler.Python(), "`.");
  if (e.schedule.Renoises()) {
    return text + StrCat(scheduler.makes_grid ? " It makes these sigmas." : " It must be given the sigmas, as below.",
                         kNewNoise, " |\n");
  }
  return text +
         StrCat(" `FlowMatchEulerDiscreteScheduler` does not give these sigmas; this one is within 0.001 of them.",
                scheduler.makes_grid ? "" : kUneven, " |\n");
}

// LightX2V goes along the velocity.
std::string LightX2VRow(const Export& e) {
  const bool lora = e.form == ExportForm::kLora;
  if (e.schedule.Renoises()) return "";
  return StrCat("| LightX2V | `\"infer_steps\": ", e.steps(), ", \"denoising_step_list\": ", CardList(e.schedule.steps),
                ", \"sample_shift\": ", e.schedule.shift, ", \"enable_cfg\": false`; ",
                lora ? "the base as it is, and `\"lora_configs\": [{\"path\": \"" + e.name + "\", \"strength\": 1.0}]`"
                     : "the original-named file as `dit_original_ckpt`",
                " |\n");
}

// ComfyUI's sampler lcm gives each clean estimate new noise.
const char* ComfySampler(const Export& e) { return e.schedule.Renoises() ? "lcm" : "euler"; }

std::string ComfyRow(const Export& e) {
  const bool lora = e.form == ExportForm::kLora;
  return StrCat("| ComfyUI | ",
                lora ? "file in `models/loras`; `LoraLoaderModelOnly` after the base model, strength_model 1.0"
                     : "original-named file in `models/diffusion_models`",
                "; steps ", e.steps(), ", sampler `", ComfySampler(e), "`, scheduler `simple`, ModelSamplingSD3 shift ",
                e.schedule.shift, ", cfg 1.0", e.schedule.IsEven() ? "" : StrCat(".", kUneven), " |\n");
}

// It switches experts by the number of the step.
std::string LightX2VRowOfTwo(const Export& e) {
  const bool lora = e.form == ExportForm::kLora;
  if (e.schedule.Renoises()) return "";
  const auto checkpoint = [&](const StudentExpert& x) {
    return StrCat("\"", SideOf(x), "_noise_original_ckpt\": \"", e.FileOf(x), "\"");
  };
  const auto adapters = [&](const StudentExpert& x) {
    return StrCat("{\"name\": \"", x.name, "\", \"path\": \"", e.FileOf(x), "\", \"strength\": 1.0}");
  };
  return StrCat("| LightX2V | `--model_cls wan2.2_moe_distill`; `\"infer_steps\": ", e.steps(),
                ", \"denoising_step_list\": ", CardList(e.schedule.steps), ", \"sample_shift\": ", e.schedule.shift,
                ", \"boundary_step_index\": ", e.split(), ", \"enable_cfg\": false, \"sample_guide_scale\": [1, 1]`; ",
                lora ? "the base as it is, and `\"lora_configs\": [" + e.EachTrained(", ", adapters) + "]`"
                     : "the original-named files as `" + e.EachTrained(", ", checkpoint) + "`",
                " |\n");
}

// A sampler for each expert; the first hands a latent on that still has the noise of the step at which they change.
std::string ComfyRowOfTwo(const Export& e) {
  const bool lora = e.form == ExportForm::kLora;
  const std::string files = e.EachTrained(" and ", [&](const StudentExpert& x) { return "`" + e.FileOf(x) + "`"; });
  return StrCat("| ComfyUI | ", files, " in `models/", lora ? "loras" : "diffusion_models",
                "`; for each expert `Load Diffusion Model`", lora ? " of the base" : "",
                lora ? ", its file by `LoraLoaderModelOnly` with strength_model 1.0" : "",
                " and ModelSamplingSD3 shift ", e.schedule.shift, "; two `KSamplerAdvanced` in a row, of both steps ",
                e.steps(), ", cfg 1.0, sampler `", ComfySampler(e),
                "`, scheduler `simple`: the first with the high-noise model, add_noise "
                "`enable`, start_at_step 0, end_at_step ",
                e.split(),
                ", return_with_leftover_noise `enable`; the second with the low-noise model, add_noise `disable`, "
                "start_at_step ",
                e.split(), ", end_at_step 10000, return_with_leftover_noise `disable`",
                e.schedule.IsEven() ? "" : StrCat(".", kUneven), " |\n");
}

std::string SgmdRow(const Export& e) {
  const bool files = e.student.has_two_experts() && e.form == ExportForm::kOriginal;  // not a model for our sampler
  std::string text =
      StrCat("| sgmd | `sgmd-sample --model ", files ? "<student/ of the run>" : e.name, " --student-steps");
  for (const std::int64_t step : e.schedule.steps) text += StrCat(" ", step);
  return text + StrCat(" --shift ", e.schedule.shift, e.schedule.Renoises() ? " --rollout renoise" : "",
                       files ? StrCat(" --boundary ", e.student.boundary) : "", "` |\n");
}

// A row a tool that can run the model: where the file goes there, and how it is sampled.
std::string Tools(const Export& e) {
  const StudentSource& s = e.student;
  std::string text = "| tool | settings |\n|---|---|\n";
  if (!InRgb(s)) text += DiffusersRow(e);
  if (RunsInWanTools(s)) {
    text += s.has_two_experts() ? LightX2VRowOfTwo(e) + ComfyRowOfTwo(e) : LightX2VRow(e) + ComfyRow(e);
  }
  if (e.form != ExportForm::kLora) text += SgmdRow(e);
  if (RunsInWanTools(s)) return text + "\n";
  return text + (InRgb(s) ? "\nIts latents are pixels (RGB) and its sizes are its own: tools that are made for "
                            "Wan's published models do not run it.\n\n"
                          : "\nTools that take the sizes of Wan's published models for granted do not run it.\n\n");
}

// Of a scheduler that does not make the sigmas by itself: WanPipeline asks it for a number of steps alone.
std::string GivenGrid(const StudentSchedule& schedule) {
  if (!schedule.Renoises() || DiffusersScheduler::Of(schedule).makes_grid) return "";
  std::vector<double> sigmas = schedule.Sigmas();
  sigmas.pop_back();
  return StrCat("set_timesteps = pipe.scheduler.set_timesteps\n",
                "pipe.scheduler.set_timesteps = lambda steps, device=None: set_timesteps(device=device, sigmas=",
                CardList(sigmas), ")\n");
}

// Of a model that makes videos either way.
std::string TheOtherWay(const Export& e) {
  if (!e.student.config.may_hold_image()) return "";
  return e.student.begins_with_picture
             ? "`WanPipeline` loads the same folder for videos from a prompt alone, which this student was not trained "
               "for.\n\n"
             : "`WanImageToVideoPipeline` loads the same folder for videos that begin with a picture. A student whose "
               "prompts had no first frames was not trained for that.\n\n";
}

std::string InDiffusers(const Export& e) {
  const DiffusersScheduler scheduler = DiffusersScheduler::Of(e.schedule);
  const std::string pipeline = PipelineOf(e.student);
  const std::string call =
      StrCat(GivenGrid(e.schedule), "video = pipe(", e.student.begins_with_picture ? "image, " : "",
             "prompt, num_inference_steps=", e.steps(), ", guidance_scale=1.0).frames[0]\n```\n\n");
  switch (e.form) {
    case ExportForm::kDiffusers:
      return StrCat("```python\nfrom diffusers import ", pipeline, "\npipe = ", pipeline,
                    ".from_pretrained(\"<this folder>\")\n", call, TheOtherWay(e));
    case ExportForm::kLora:
      return StrCat(
          "```python\nfrom diffusers import ", scheduler.name, ", ", pipeline, "\npipe = ", pipeline,
          ".from_pretrained(\"<Diffusers folder of the base>\")\n",
          e.EachTrained("",
                        [&](const StudentExpert& x) { return "pipe." + LoadLora("\"<this folder>\"", e, x) + "\n"; }),
          "pipe.scheduler = ", scheduler.Python(), "\n", call);
    case ExportForm::kOriginal:
      return StrCat(
          "diffusers: `WanTransformer3DModel.from_single_file(file, config=<folder with a Diffusers config.json>)`; "
          "without `config=` only the sizes of 1.3B and 14B are recognised.",
          e.student.has_two_experts() ? " The high-noise file is `transformer`, the low-noise one `transformer_2`."
                                      : "",
          "\n\n");
  }
  return "";
}

// In tenths: 833.3.
std::string Timesteps(const std::vector<double>& sigmas, std::size_t first, std::size_t last) {
  if (first == last) return "no step";
  std::vector<double> timesteps;
  for (std::size_t i = first; i < last; ++i) timesteps.push_back(std::round(1e4 * sigmas[i]) / 10);
  return StrCat(last - first == 1 ? "the step" : "the steps", " at timestep ", CardList(timesteps));
}

// Which steps are whose.
std::string Split(const Export& e) {
  if (!e.student.has_two_experts()) return "";
  const std::vector<double> sigmas = e.schedule.Sigmas();
  return StrCat("Two experts share the steps by noise level, with the boundary at ", e.student.boundary,
                ": the high-noise expert takes ", Timesteps(sigmas, 0, e.split()), ", the low-noise expert ",
                Timesteps(sigmas, e.split(), e.steps()), ".\n\n");
}

// What happens between two steps.
std::string StepsInWords(const StudentSchedule& schedule) {
  const std::string sigmas = CardList(schedule.Sigmas());
  const std::string grid = StrCat(" (timesteps ", CardList(schedule.steps), ", shift ", schedule.shift, ").");
  if (!schedule.Renoises()) return StrCat("Euler over sigma = ", sigmas, grid);
  return StrCat(
      "Over sigma = ", sigmas, grid,
      " Each step takes the clean estimate x0 = x - sigma v to the next sigma with new noise e: (1 - sigma) x0 "
      "+ sigma e. Euler steps, along the velocity, do not sample this student as it was trained.");
}

}  // namespace

std::string SettingsSection(const StudentSource& student, ExportForm form, const std::string& name,
                            const std::vector<std::string>& missing) {
  const Export e{student, form, name, StudentSchedule::Of(student)};
  std::string text =
      StrCat("## Settings\n\nNo guidance: one conditional pass a step (guidance scale 1). ", StepsInWords(e.schedule),
             " Prompts are padded with zero embeddings to ", student.config.text_len, " rows.",
             student.experiment ? "" : " The source does not tell its schedule: this is the published one.", "\n\n",
             Split(e), Tools(e), InRgb(student) ? "" : InDiffusers(e));
  if (missing.empty()) return text;
  return text + "**Not in this folder:** " + CardList(missing) +
         ". Put in those of the base model (`sgmd-export --base <Diffusers folder>`), or pass them to "
         "`from_pretrained`.\n\n";
}

}  // namespace sgmd
