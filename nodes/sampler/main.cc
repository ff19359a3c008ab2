#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/progress.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"

namespace {

struct Options {
  std::filesystem::path model, bank, noise, out, video;
  std::vector<std::string> prompts;
  std::vector<std::int64_t> latent{3, 8, 8, 8}, student_steps;
  std::int64_t steps = 50;
  double shift = 1.0, guidance = 1.0;
  std::uint64_t seed = 1;
  int threads = 2;
  std::string device = "cpu";
};

at::Tensor InitialNoise(const Options& o, std::int64_t count) {
  if (!o.noise.empty()) return sgmd::CopyToTensor(sgmd::SafetensorsFile::Open(o.noise).At("noise")).to(at::kFloat);
  std::vector<std::int64_t> shape{count};
  shape.insert(shape.end(), o.latent.begin(), o.latent.end());
  return sgmd::Noise(shape, sgmd::SeedFor(o.seed, 0, 0, "sampler_noise"));
}

int Sample(const Options& o) {
  const sgmd::WanTransformer model = sgmd::WanTransformer::Load(o.model, at::Device(o.device));
  const sgmd::PromptBank bank = sgmd::PromptBank::Open(o.bank);
  std::vector<sgmd::Digest> prompts;
  for (const std::string& text : o.prompts) prompts.push_back(sgmd::DigestText(text));
  if (prompts.empty()) prompts = bank.prompts();
  const at::Tensor noise = InitialNoise(o, static_cast<std::int64_t>(prompts.size()));
  if (noise.size(0) != static_cast<std::int64_t>(prompts.size())) {
    throw sgmd::Error(sgmd::StrCat(noise.size(0), " noises for ", prompts.size(), " prompts"), o.noise.string());
  }
  const auto sigmas = o.student_steps.empty() ? sgmd::UniformSigmas(o.steps, o.shift)
                                              : sgmd::StudentSigmas(o.student_steps, o.shift);
  const std::int64_t text_len = model.config().text_len;
  sgmd::ProgressLine progress("sampling", static_cast<std::int64_t>(sigmas.size()) - 1);
  const at::Tensor latents = sgmd::EulerSample(
      model, noise.to(model.device()), sigmas, bank.Gather(prompts, text_len).to(model.device()),
      bank.GatherNegative(noise.size(0), text_len).to(model.device()), o.guidance,
      [&](std::int64_t done) { progress.Update(done); });
  progress.Finish();
  sgmd::SaveTensors(o.out, {{"latents", latents}, {"noise", noise}},
                    {{"sgmd.guidance", sgmd::StrCat("u + ", o.guidance, " (c - u)")}});
  std::cout << "latents " << o.out.string() << "\n";
  if (!o.video.empty()) {
    const at::Tensor rgb = sgmd::EnlargeToRgb(latents, 12);  // side by side
    sgmd::WriteVideo(o.video, at::cat(rgb.unbind(0), 2), 8);
    std::cout << "video " << o.video.string() << "\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Draws videos from a model folder with Euler steps.\n\n"
               "  teacher: sgmd-sampler --model launch/models/bouncing_ball --steps 50 --guidance 2 --out t.safetensors\n"
               "  student: sgmd-sampler --model runs/demo/student --student-steps 1000 750 500 250 --shift 5 --out s.safetensors"};
  Options o;
  app.add_option("--model", o.model, "Model folder (config.json, *.safetensors)")->required();
  app.add_option("--prompt-bank", o.bank, "Prompt bank (default: prompt_bank.safetensors beside the model)");
  app.add_option("--prompt", o.prompts, "Prompt of the bank; repeat for more (default: all of them)");
  app.add_option("--steps", o.steps, "Uniform steps before the shift")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--student-steps", o.student_steps, "Timesteps of a few-step student instead, such as 1000 750 500 250");
  app.add_option("--shift", o.shift, "Shift m of S_m(u) = m u / (1 + (m-1) u)")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--guidance", o.guidance, "w in u + w (c - u); 1 runs the conditional pass alone (students)")->capture_default_str();
  app.add_option("--latent", o.latent, "Channels, frames, height, width")->expected(4)->capture_default_str();
  app.add_option("--seed", o.seed, "Seed of the initial noise")->capture_default_str();
  app.add_option("--noise", o.noise, "safetensors with the initial noise as \"noise\" [B, C, F, H, W], instead of a seed");
  app.add_option("--out", o.out, "safetensors to write: \"latents\" and \"noise\"")->required();
  app.add_option("--video", o.video, "Also write the videos side by side (.gif or .mp4; latents are taken as RGB)");
  app.add_option("--device", o.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", o.threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return sgmd::RunGuarded("sgmd-sampler", [&] {
    sgmd::InitLog("sampler");
    at::set_num_threads(o.threads);
    if (o.bank.empty()) o.bank = o.model / "prompt_bank.safetensors";
    return Sample(o);
  });
}
