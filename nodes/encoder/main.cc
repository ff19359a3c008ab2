#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>
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

Then, in an experiment:  [model] prompts = "prompt_bank.safetensors"
                         prompt_encoder = the digest that is printed (optional: another encoder's bank is then an error))";

struct Options {
  std::filesystem::path prompts, encoder, tokenizer;
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

int Encode(Options& o) {
  if (sgmd::FirstInvalidUtf8(o.job.negative) != std::string::npos) throw sgmd::Error("not UTF-8", "--negative");
  sgmd::PromptFile file = sgmd::PromptFile::Read(o.prompts);
  sgmd::LogInfo(file.prompts.size(), " prompts",
                file.duplicates > 0 ? sgmd::StrCat(", ", file.duplicates, " more were duplicates") : "");
  const sgmd::Umt5Encoder encoder = sgmd::Umt5Encoder::Load(o.encoder, sgmd::OpenDevice(o.device));
  sgmd::TokenizerClient tokenizer(o.tokenizer.empty() ? TokenizerBeside(o.encoder) : o.tokenizer);
  o.job.prompts = std::move(file.prompts);
  o.job.dtype = o.dtype == "float32" ? at::kFloat : at::kBFloat16;
  sgmd::MakeBank(o.job, encoder, tokenizer);
  std::cout << "prompts " << o.job.prompts.size() << "\nprompt_encoder " << encoder.digest().Hex() << "\nbank "
            << o.job.out.string() << "\n";
  return 0;
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
  app.add_option("--out", o.job.out, "Prompt bank to write; unfinished work is kept in <out>.parts/")->required();
  app.add_option("--negative", o.job.negative,
                 "Negative prompt (default: Wan's own Chinese one; \"\" for the empty prompt)");
  app.add_option("--dtype", o.dtype, "Of the rows: bfloat16 is what Wan models are fed")
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
