#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>

#include "common/command_line/command_line.h"
#include "common/log/log.h"
#include "nodes/vae/coding.h"
#include "pipeline/device/torch_program.h"
#include "pipeline/vae/vae_tiling.h"

int main(int argc, char** argv) {
  CLI::App app{
      "Videos to latents and back with a Wan VAE.\n\n"
      "  sgmd-vae encode --vae Wan2.1-T2V-1.3B-Diffusers --video cat.mp4 --size 832 480 --fps 16 --frames 81 --out "
      "cat.safetensors\n"
      "  sgmd-vae decode --vae Wan2.1-T2V-1.3B-Diffusers --latents cat.safetensors --out cat.mp4\n\n"
      "--vae is a pipeline folder with vae/, such a vae/ folder itself, or one safetensors file with original or "
      "Diffusers\n"
      "names. Latents of 16 channels belong to the Wan2.1 VAE (every model but the 5B; 16 frames a second), those of "
      "48\n"
      "channels to the Wan2.2 VAE (TI2V-5B; 24 frames a second). Frames go through in groups of one latent frame, so "
      "length\n"
      "costs time and no memory: the Wan2.1 decoder takes about 8 GB in float32 at 832x480. Where that is too much,\n"
      "--vae-tile 256 takes frames in tiles of 256 pixels, as diffusers does."};
  app.require_subcommand(1);
  app.fallthrough();  // subcommands inherit it: --device and --threads may come after their names
  int threads = 2;
  std::int64_t tile = 0;
  std::string device = "cpu";
  app.add_option("--vae-tile", tile, sgmd::kVaeTileHelp)->check(CLI::PositiveNumber);
  app.add_option("--device", device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();

  sgmd::EncodeOptions encode;
  CLI::App* e = app.add_subcommand("encode", "A video -> normalised latents");
  e->add_option("--vae", encode.vae, "VAE: pipeline folder, vae/ folder or safetensors file")->required();
  e->add_option("--video", encode.video, "Anything ffmpeg reads, or a folder whose *.png are the frames")->required();
  e->add_option("--out", encode.out, "safetensors to write: \"latents\" [1, channels, 1 + k, h, w]")->required();
  e->add_option("--size", encode.size, "Width and height: scale to cover it, crop the rest (default: as the video is)")
      ->expected(2)
      ->check(CLI::PositiveNumber);
  e->add_option("--fps", encode.frames_per_second, "Frames a second to sample (default: every frame)")
      ->check(CLI::PositiveNumber);
  e->add_option("--frames", encode.frames, "Only the first so many, 1 + 4 k (default: all)")
      ->check(CLI::PositiveNumber);

  sgmd::DecodeOptions decode;
  CLI::App* d = app.add_subcommand("decode", "Normalised latents -> a video");
  d->add_option("--vae", decode.vae, "VAE: pipeline folder, vae/ folder or safetensors file")->required();
  d->add_option("--latents", decode.latents, "safetensors with \"latents\" [videos, channels, frames, h, w]")
      ->required();
  d->add_option("--out", decode.out, "What to write: .mp4, .gif, or .png for a single frame")->required();
  d->add_option("--fps", decode.frames_per_second, "Frames a second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();

  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-vae")) return *code;
  return sgmd::RunTorchProgram("sgmd-vae", [&] {
    sgmd::InitLog("vae");
    at::set_num_threads(threads);
    encode.device = decode.device = device;
    encode.tile = decode.tile = tile;
    if (*e) sgmd::EncodeVideo(encode);
    if (*d) sgmd::DecodeVideo(decode);
    return 0;
  });
}
