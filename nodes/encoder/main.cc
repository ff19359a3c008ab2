#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <set>
#include <thread>

#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/encoder/bank_job.h"
#include "nodes/encoder/prompt_file.h"
#include "pipeline/device/open_device.h"
#include "pipeline/device/torch_program.h"
#include "pipeline/text/negative_prompt.h"
#include "pipeline/text/prompt_cleaning.h"

namespace {

constexpr char kHelp[] =
    R"(Encodes a file of prompts with umT5 into a prompt bank, the file that every process of a run reads embeddings from.
Interrupt it at any time: the same command goes on where it was. More prompts in the file later: only they are encoded.

  sgmd-encode --prompts prompts.txt --encoder Wan2.1-T2V-1.3B-Diffusers --out prompt_bank.safetensors

For image-to-video each prompt has its first frame, a picture:

  sgmd-encode --prompts prompts.txt --images images.txt --size 832 480 --frames 81 \
      --encoder Wan2.2-I2V-A14B-Diffusers --out prompt_bank.safetensors

images.txt has the path of a picture a line, for each prompt in their order, relative to its own folder. A picture is
resized to --size by the Lanczos filter whatever its proportions, as diffusers does. --encoder is then the model's
repository, whose vae/ and, of Wan2.1, image_encoder/ are taken; or they are named by themselves. Of TI2V-5B, which is
given the picture in the place of the first frame, no --frames are needed: --size 1280 704.

Then, in an experiment:  [model] prompts = "prompt_bank.safetensors"
                         prompt_encoder = the digest that is printed (optional: another encoder's bank is then an error))";

struct Options {
  std::filesystem::path prompts, encoder, tokenizer, images, vae, image_encoder;
  std::vector<std::int64_t> size{832, 480};  // width, height
  std::int64_t frames = 0;
  std::string device = "cpu", dtype = "bfloat16";
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  sgmd::BankJobOptions job;
};

// Where a tokenizer usually lies beside an encoder: in the same repository.
std::filesystem::path TokenizerBeside(const std::filesystem::path& encoder) {
  const auto folder =
      std::filesystem::is_directory(encoder) ? encoder : std::filesystem::absolute(encoder).parent_path();
  for (const auto& place : {folder, std::filesystem::absolute(folder / "").parent_path().parent_path()}) {
    for (const char* file : {"spiece.model", "tokenizer/spiece.model", "google/umt5-xxl/spiece.model"}) {
      if (std::filesystem::exists(place / file)) return place / file;
    }
  }
  throw sgmd::Error("no tokenizer near the encoder", encoder.string(),
                    "name spiece.model or its folder with --tokenizer");
}

// A part of the repository that the text encoder is of, if it has it.
std::filesystem::path PartBeside(const std::filesystem::path& encoder, const char* part) {
  const auto absolute = std::filesystem::absolute(encoder / "").parent_path();
  for (const auto& place : {absolute, absolute.parent_path()}) {
    if (std::filesystem::exists(place / part / "config.json")) return place / part;
  }
  return {};
}

sgmd::FirstFrameEncoder OpenFirstFrameEncoder(const Options& o) {
  const auto vae = o.vae.empty() ? PartBeside(o.encoder, "vae") : o.vae;
  if (vae.empty()) throw sgmd::Error("no VAE near the encoder", o.encoder.string(), "name it with --vae");
  const auto clip = o.image_encoder.empty() ? PartBeside(o.encoder, "image_encoder") : o.image_encoder;
  return {vae, clip, {o.frames, o.size[1], o.size[0]}, sgmd::OpenDevice(o.device)};
}

// Prompts and pictures in pairs, of which none comes twice.
void TakePairs(const Options& o, const std::vector<std::string>& prompts, sgmd::BankJobOptions& job) {
  std::set<std::pair<std::string, std::string>> seen;
  const std::vector<sgmd::BankPicture> pictures = sgmd::ReadPictureList(o.images, prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (!seen.emplace(prompts[i], pictures[i].name).second) continue;
    job.prompts.push_back(prompts[i]);
    job.pictures.push_back(pictures[i]);
  }
}

int Encode(Options& o) {
  if (sgmd::FirstInvalidUtf8(o.job.negative) != std::string::npos) throw sgmd::Error("not UTF-8", "--negative");
  sgmd::PromptFile file = sgmd::PromptFile::Read(o.prompts, /*keep_duplicates=*/!o.images.empty());
  sgmd::LogInfo(file.prompts.size(), " prompts",
                file.duplicates > 0 ? sgmd::StrCat(", ", file.duplicates, " more were duplicates") : "");
  std::optional<sgmd::FirstFrameEncoder> first_frames;
  if (o.images.empty()) {
    o.job.prompts = std::move(file.prompts);
  } else {
    TakePairs(o, file.prompts, o.job);
    first_frames.emplace(OpenFirstFrameEncoder(o));
  }
  const sgmd::Umt5Encoder encoder = sgmd::Umt5Encoder::Load(o.encoder, sgmd::OpenDevice(o.device));
  sgmd::TokenizerClient tokenizer(o.tokenizer.empty() ? TokenizerBeside(o.encoder) : o.tokenizer);
  o.job.dtype = o.dtype == "float32" ? at::kFloat : at::kBFloat16;
  sgmd::MakeBank(o.job, encoder, tokenizer, first_frames ? &*first_frames : nullptr);
  std::cout << "prompts " << o.job.prompts.size() << "\nprompt_encoder " << encoder.digest().Hex() << "\nbank "
            << o.job.out.string() << "\n";
  return 0;
}

void AddPictureOptions(CLI::App& app, Options& o) {
  auto* images =
      app.add_option("--images", o.images, "First frames: a text file with the path of a picture for each prompt");
  app.add_option("--size", o.size, "Width and height of the videos")
      ->expected(2)
      ->check(CLI::PositiveNumber)
      ->needs(images)
      ->capture_default_str();
  app.add_option("--frames", o.frames, "Frames of the videos, 1 + 4 k (default: 81; 1 with TI2V-5B's VAE)")
      ->check(CLI::PositiveNumber)
      ->needs(images);
  app.add_option("--vae", o.vae, "VAE folder or file (default: of the repository that --encoder is of)")->needs(images);
  app.add_option("--image-encoder", o.image_encoder,
                 "CLIP vision encoder for Wan2.1 (default: of that repository, where it has one)")
      ->needs(images);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kHelp};
  Options o;
  o.job.negative = sgmd::kWanNegativePrompt;
  app.add_option("--prompts", o.prompts,
                 ".txt (one a line), .jsonl (\"prompt\" or \"text\") or .csv (column prompt, text or caption)")
      ->required();
  app.add_option("--encoder", o.encoder, "A -Diffusers repository, its text_encoder/, or umT5 weights as safetensors")
      ->required();
  app.add_option("--tokenizer", o.tokenizer, "spiece.model or a folder that has it (default: near the encoder)");
  AddPictureOptions(app, o);
  app.add_option("--out", o.job.out, "Prompt bank to write; unfinished work is kept in <out>.parts/")->required();
  app.add_option("--negative", o.job.negative,
                 "Negative prompt (default: Wan's own Chinese one; \"\" for the empty prompt)");
  app.add_option("--dtype", o.dtype, "Of what is in the bank: bfloat16 is what Wan models are fed")
      ->check(CLI::IsMember({"bfloat16", "float32"}))
      ->capture_default_str();
  app.add_option("--max-length", o.job.max_length,
                 "Tokens of a prompt at most, end-of-text included: the model's text_len")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--group", o.job.group, "Prompts encoded together; what a kill can cost")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--force", o.job.force,
               "Replace a bank that has prompts which these are not, or another negative prompt");
  app.add_option("--device", o.device, "cpu, cuda or cuda:N; computes in float32 on each")->capture_default_str();
  app.add_option("--threads", o.threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-encode")) return *code;
  return sgmd::RunTorchProgram("sgmd-encode", [&] {
    sgmd::InitLog("encode");
    at::set_num_threads(o.threads);
    return Encode(o);
  });
}
