#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "common/command_line/command_line.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/exporter/export.h"
#include "pipeline/device/torch_program.h"

namespace {

struct Options {
  std::filesystem::path source, diffusers, original, lora;
  bool ema = false, raw = false;
  std::string dtype = "float32";
  int threads = 2;
  sgmd::ExportOptions exporting;

  sgmd::WeightsChoice choice() const {
    return ema ? sgmd::WeightsChoice::kEma : raw ? sgmd::WeightsChoice::kRaw : sgmd::WeightsChoice::kBest;
  }
};

int Export(Options o) {
  if (o.diffusers.empty() && o.original.empty() && o.lora.empty()) {
    throw sgmd::Error("nothing to write", "",
                      "--diffusers <folder>, --original <file.safetensors> or --lora <file.safetensors>");
  }
  o.exporting.dtype = o.dtype == "bfloat16" ? sgmd::DType::kBF16 : sgmd::DType::kF32;
  const sgmd::StudentSource student = sgmd::OpenStudent(o.source, o.choice());
  const std::string kind =
      sgmd::StrCat(student.kind.empty() ? "" : student.kind + " ", "weights of ", student.weights.string());
  sgmd::LogInfo("exporting ", kind, " as ", o.dtype);
  if (!o.diffusers.empty()) {
    sgmd::ExportDiffusers(student, o.exporting, o.diffusers);
    std::cout << "diffusers " << o.diffusers.string() << "\n";
  }
  if (!o.original.empty()) {
    for (const auto& file : sgmd::ExportOriginal(student, o.exporting, o.original))
      std::cout << "original " << file.string() << "\n";
  }
  if (!o.lora.empty()) {
    for (const auto& file : sgmd::ExportLora(student, o.exporting, o.lora))
      std::cout << "lora " << file.string() << "\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Writes a student in the forms that other tools load.\n\n"
      "  sgmd-export runs/demo --diffusers out/student --base <Diffusers folder of the teacher>\n"
      "  sgmd-export runs/demo --original out/student.safetensors --dtype bfloat16     (ComfyUI, LightX2V)\n"
      "  sgmd-export runs/lora --lora out/student_lora.safetensors\n\n"
      "Of a LoRA run --lora writes the adapters, to be put on the teacher; the other two write the merged model. Of a "
      "student of two experts --original and --lora write a file of each: student_high_noise.safetensors and "
      "student_low_noise.safetensors for student.safetensors."};
  Options o;
  app.add_option("source", o.source, "Run folder, checkpoint folder (…/checkpoints/step-*) or model")->required();
  app.add_option("--diffusers", o.diffusers, "Diffusers folder to write");
  app.add_option("--original", o.original,
                 "Original-named .safetensors file to write, with config.json and README.md beside it");
  app.add_option("--lora", o.lora, "Of a LoRA run: .safetensors file with the adapters, with README.md beside it");
  auto* ema = app.add_flag("--ema", o.ema, "The averaged weights (the default where there are some)");
  app.add_flag("--raw", o.raw, "The weights as trained, not averaged")->excludes(ema);
  app.add_option("--dtype", o.dtype, "dtype of the written weights")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--shard-gib", o.exporting.shard_gib, "Most GiB a file of --diffusers")
      ->check(sgmd::NumberIn(1e-6, 1e6))
      ->capture_default_str();
  app.add_option("--base", o.exporting.base, "Diffusers folder to take text_encoder, tokenizer and vae from")
      ->check(CLI::ExistingDirectory);
  app.add_flag("--copy-base", o.exporting.copy_base, "Copy them instead of linking to them");
  app.add_flag("!--no-verify,--verify", o.exporting.verify, "Read back and compare (default)");
  app.add_flag("--overwrite", o.exporting.overwrite, "Replace an earlier export");
  app.add_option("--threads", o.threads, "CPU threads")->check(CLI::PositiveNumber)->capture_default_str();
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-export")) return *code;
  return sgmd::RunTorchProgram("sgmd-export", [&] {
    sgmd::InitLog("export");
    at::set_num_threads(o.threads);
    return Export(std::move(o));
  });
}
