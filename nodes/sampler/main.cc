#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <fstream>

#include "common/command_line/command_line.h"
#include "common/log/log.h"
#include "nodes/sampler/sampler.h"
#include "pipeline/device/torch_program.h"
#include "pipeline/vae/vae_tiling.h"

namespace {

constexpr char kAbout[] =
    R"(Draws videos from a Wan model, of a text or of a text and a first frame: the many-step teacher or a few-step student.

  teacher:  sgmd-sample --model Wan2.1-T2V-1.3B-Diffusers --prompt "a cat on a wall" --device cuda --out cat.mp4
  student:  sgmd-sample --model runs/wan/student --student-steps 1000 750 500 250 --shift 5 \
                --text-encoder Wan/text_encoder --vae Wan/vae --prompt "a cat on a wall" --device cuda --out cat.mp4
  embedded: sgmd-sample --model launch/models/bouncing_ball --solver euler --shift 1 --guidance 2 --out balls.gif --side-by-side

A Diffusers pipeline as --model supplies text encoder, tokenizer, VAE and shift by itself.)";

// One prompt a line; empty lines are none.
std::vector<std::string> ReadLines(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) sgmd::ThrowErrno("cannot read prompts", path.string());
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) lines.push_back(line);
  }
  return lines;
}

void AddTextOptions(CLI::App& app, sgmd::SampleOptions& o, std::filesystem::path& prompt_file) {
  app.add_option("--prompt", o.prompts, "Text of a video; repeat for more (default with a bank: all of its prompts)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--prompt-file", prompt_file, "Prompts, one a line");
  app.add_option("--negative-prompt", o.negative_prompt, "Unconditional text (default: Wan's, or the bank's)");
  app.add_option("--text-encoder", o.text_encoder, "umT5 folder or file (default: the pipeline's)");
  app.add_option("--tokenizer", o.tokenizer,
                 "Folder with spiece.model (default: the pipeline's, or beside the text encoder)");
  app.add_option("--prompt-bank", o.prompt_bank,
                 "Take prompts from a bank (default: prompt_bank.safetensors beside the model)");
  app.add_option("--embeddings", o.embeddings,
                 "safetensors with text embeddings: \"context\" and, with guidance, \"negative\", [B, rows, text_dim]");
}

void AddImageOptions(CLI::App& app, sgmd::SampleOptions& o) {
  app.add_option(
         "--image", o.images,
         "First frame of a video, for a model for image-to-video: a picture, resized to the videos' size by the "
         "Lanczos filter; one for all prompts, or repeated for each (default with a bank: its own)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--image-encoder", o.image_encoder, "CLIP vision encoder of Wan2.1 (default: the pipeline's)");
}

void AddSamplingOptions(CLI::App& app, sgmd::SampleOptions& o) {
  app.add_option("--solver", o.solver, "unipc or euler (a uniform grid, shifted)")
      ->check(CLI::IsMember({"unipc", "euler"}))
      ->capture_default_str();
  app.add_option("--grid", o.grid, "Time grid of unipc: diffusers, or wan for the original repositories'")
      ->check(CLI::IsMember({"diffusers", "wan"}))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "Steps of the teacher")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--student-steps", o.student_steps,
                 "Timesteps before the shift of a few-step student: 1000 750 500 250; no guidance")
      ->check(CLI::Range(1, 1000));
  app.add_option("--rollout", o.rollout,
                 "Of a few-step student, as it was trained: euler, or renoise (new noise at each step)")
      ->check(CLI::IsMember({"euler", "renoise"}))
      ->capture_default_str();
  app.add_option("--shift", o.shift, "m of S_m(u) = m u / (1 + (m-1) u) (default: the pipeline's flow_shift, else 5)")
      ->check(sgmd::NumberIn(0.001, 1000));
  app.add_option("--guidance", o.guidance,
                 "w in u + w (c - u), as Wan and diffusers count it; 1 runs the conditional pass alone")
      ->check(sgmd::NumberIn(0, 100))
      ->capture_default_str();
  app.add_option("--guidance-low", o.guidance_low, "w of the low-noise expert of two (default: as --guidance)")
      ->check(sgmd::NumberIn(0, 100));
  app.add_option("--boundary", o.boundary,
                 "Noise level from which on the high-noise expert of two is used (default: as the model's folder says)")
      ->check(sgmd::NumberIn(0.001, 0.999));
  app.add_option("--seed", o.seed, "Seed of the initial noise, and of a student's new noise")
      ->check(sgmd::Seed())
      ->capture_default_str();
  app.add_option("--noise", o.noise,
                 "safetensors with the initial noise as \"noise\" [B, C, F, H, W], instead of a seed and a size");
}

void AddSizeOptions(CLI::App& app, sgmd::SampleOptions& o) {
  app.add_option("--frames", o.size.frames, "Frames, 4n + 1 (default: 81; 121 for TI2V-5B)")
      ->check(CLI::PositiveNumber);
  app.add_option("--height", o.size.height, "Pixels (default: 480; 704 for TI2V-5B)")->check(CLI::PositiveNumber);
  app.add_option("--width", o.size.width, "Pixels (default: 832; 1280 for TI2V-5B)")->check(CLI::PositiveNumber);
  app.add_option("--latent", o.latent, "Instead: channels, frames, height, width of the latents")
      ->expected(4)
      ->excludes("--frames")
      ->excludes("--height")
      ->excludes("--width");
}

void AddOutputOptions(CLI::App& app, sgmd::SampleOptions& o) {
  app.add_option(
         "--out", o.out,
         "Files to write, by extension: .mp4 or .gif, .png (frames in a row), .safetensors (\"latents\", \"noise\")")
      ->required();
  app.add_option("--vae", o.vae,
                 "VAE folder or file that decodes the latents, and encodes --image (default: the pipeline's; 3-channel "
                 "latents are "
                 "shown as RGB)");
  app.add_option("--vae-tile", o.vae_tile, sgmd::kVaeTileHelp)->check(CLI::PositiveNumber);
  app.add_option("--save-trajectory", o.trajectory,
                 "safetensors with every sample x_0 ... x_N, \"sigmas\" and \"timesteps\"");
  app.add_option("--frame-rate", o.frame_rate, "Frames a second (default: 16; 24 for TI2V-5B; 8 for RGB latents)")
      ->check(sgmd::NumberIn(0.1, 1000));
  app.add_flag("--side-by-side", o.side_by_side, "Several videos in one file (default: numbered files)");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kAbout};
  sgmd::SampleOptions o;
  std::filesystem::path prompt_file;
  int threads = 2;
  app.add_option("--model", o.model,
                 "Transformer folder, original or Diffusers, a Diffusers pipeline, or a folder of two experts")
      ->required();
  AddTextOptions(app, o, prompt_file);
  AddImageOptions(app, o);
  AddSamplingOptions(app, o);
  AddSizeOptions(app, o);
  AddOutputOptions(app, o);
  app.add_option("--device", o.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--dtype", o.dtype,
                 "Of the transformer: float32 or bfloat16 (default: float32 on the CPU, bfloat16 on a GPU)")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_option("--threads", threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-sample")) return *code;
  return sgmd::RunTorchProgram("sgmd-sample", [&] {
    sgmd::InitLog("sample");
    at::set_num_threads(threads);
    if (!prompt_file.empty()) {
      for (std::string& line : ReadLines(prompt_file)) o.prompts.push_back(std::move(line));
    }
    sgmd::Sample(o);
    return 0;
  });
}
