// The only program with SentencePiece in it: its protobuf must not share a process with LibTorch's.
#include <sentencepiece_processor.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/command_line/command_line.h"
#include "common/digest/digest.h"
#include "common/error/error.h"

namespace {

using nlohmann::json;

constexpr char kHelp[] =
    R"(Tokenises prompts as umT5 does: SentencePiece pieces, then the end-of-text token; nothing before, no padding.
Started by sgmd-encode, but usable by hand: one JSON request a line on stdin, one JSON answer a line on stdout, in order,
until stdin ends. The text is taken as it is: sgmd-encode cleans prompts before it asks.

  {"text": "a cat"}                     -> {"ids": [289, 6283, 1]}
  {"text": "...", "max_length": 64}     -> ids truncated to 64, the last of them still the end-of-text token
  {"about": true}                       -> {"model": path, "digest": of the file, "pieces": count, "eos": 1}
  anything else                         -> {"error": "what is wrong with the request"}; the next line is read as usual

  echo '{"text": "a cat"}' | sgmd-tokenizer --model Wan2.1-T2V-1.3B-Diffusers)";

std::filesystem::path FindModel(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) throw sgmd::Error("no such tokenizer", path.string());
  if (!std::filesystem::is_directory(path)) return path;
  for (const char* place : {"spiece.model", "tokenizer/spiece.model", "google/umt5-xxl/spiece.model"}) {
    if (std::filesystem::exists(path / place)) return path / place;
  }
  throw sgmd::Error("no spiece.model here", path.string(),
                    "it is in tokenizer/ of a -Diffusers repository and in google/umt5-xxl/ of an original one");
}

class Tokenizer {
 public:
  Tokenizer(std::filesystem::path model, std::int64_t max_length) : model_(std::move(model)), max_length_(max_length) {
    if (const auto status = processor_.Load(model_.string()); !status.ok()) {
      throw sgmd::Error("not a SentencePiece model: " + status.ToString(), model_.string());
    }
    if (processor_.eos_id() < 0) {
      throw sgmd::Error("the SentencePiece model has no end-of-text token </s>", model_.string());
    }
  }

  // Never throws: what is wrong with a request is its answer.
  json Answer(const std::string& line) const {
    const json request = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!request.is_object()) return {{"error", "not a JSON object"}};
    if (request.contains("about")) return About();
    if (!request.contains("text") || !request["text"].is_string()) {
      return {{"error", "\"text\" is missing or not a string"}};
    }
    std::int64_t max_length = max_length_;
    if (request.contains("max_length")) {
      if (!request["max_length"].is_number_integer()) return {{"error", "\"max_length\" is not an integer"}};
      max_length = request["max_length"].get<std::int64_t>();
    }
    if (max_length < 1) return {{"error", "\"max_length\" must be at least 1, the end-of-text token"}};
    std::vector<int> ids;
    const auto status = processor_.Encode(request["text"].get<std::string>(), &ids);
    if (!status.ok()) return {{"error", status.ToString()}};
    if (static_cast<std::int64_t>(ids.size()) >= max_length) ids.resize(max_length - 1);
    ids.push_back(processor_.eos_id());
    return {{"ids", ids}};
  }

 private:
  json About() const {
    return {{"model", std::filesystem::absolute(model_).string()},
            {"digest", sgmd::DigestFile(model_).Hex()},
            {"pieces", processor_.GetPieceSize()},
            {"eos", processor_.eos_id()}};
  }
  std::filesystem::path model_;
  std::int64_t max_length_;
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kHelp};
  std::filesystem::path model;
  std::int64_t max_length = 512;
  app.add_option("--model", model,
                 "spiece.model, or a folder that has it, tokenizer/spiece.model or google/umt5-xxl/spiece.model")
      ->required();
  app.add_option("--max-length", max_length,
                 "Ids of an answer at most, end-of-text included; a request may set its own")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  if (const auto code = sgmd::ParseCommandLine(app, argc, argv, "sgmd-tokenizer")) return *code;
  return sgmd::RunGuarded("sgmd-tokenizer", [&] {
    const Tokenizer tokenizer(FindModel(model), max_length);
    for (std::string line; std::getline(std::cin, line);) {
      std::cout << tokenizer.Answer(line).dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
    }
    return 0;
  });
}
