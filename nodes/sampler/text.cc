#include "nodes/sampler/text.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/models/bank_fit.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/text/negative_prompt.h"
#include "pipeline/text/prompt_cleaning.h"
#include "pipeline/text/tokenizer_client.h"
#include "pipeline/text/umt5_encoder.h"

namespace sgmd {

namespace {

// [B, rows, text_dim] -> [B, text_len, text_dim]: zero rows are attended, so their number matters (wan_facts §1.3).
at::Tensor Padded(at::Tensor rows, const WanConfig& config, const std::string& where) {
  rows = rows.to(at::kFloat);
  if (rows.dim() == 2) rows = rows.unsqueeze(0);
  if (rows.dim() != 3 || rows.size(2) != config.text_dim || rows.size(1) > config.text_len) {
    throw Error(StrCat("text embeddings of shape ", rows.sizes(), " do not fit the model"), where,
                StrCat("it takes [B, up to ", config.text_len, ", ", config.text_dim, "]"));
  }
  return at::constant_pad_nd(rows, {0, 0, 0, config.text_len - rows.size(1)});
}

TextConditions FromEmbeddings(const std::filesystem::path& path, const WanConfig& config, bool wants_negative) {
  const SafetensorsFile file = SafetensorsFile::Open(path);
  const auto get = [&](const char* name) {
    return Padded(CopyToTensor(file.At(name)), config, path.string() + ": " + name);
  };
  TextConditions text{{get("context")}, wants_negative ? get("negative") : at::Tensor()};
  const at::Tensor& context = text.condition.text;
  if (wants_negative && text.negative.size(0) != 1 && text.negative.size(0) != context.size(0)) {
    throw Error(StrCat(text.negative.size(0), " negative embeddings for ", context.size(0), " prompts"), path.string());
  }
  return text;
}

// The entries that are asked for, by their texts.
std::vector<Digest> EntriesOf(const PromptBank& bank, const std::vector<std::string>& texts) {
  if (texts.empty()) return bank.prompts();
  std::vector<Digest> entries;
  for (const std::string& text : texts) {
    for (std::size_t i = 0; i < bank.texts().size(); ++i) {
      if (bank.texts()[i] == text) entries.push_back(bank.prompts()[i]);
    }
  }
  return entries;
}

TextConditions FromBank(const std::filesystem::path& path, const SampleOptions& options, const WanConfig& config,
                        const std::vector<std::int64_t>& shape) {
  const PromptBank bank = PromptBank::Open(path);
  bank.RequireFits(config.text_dim, config.text_len);
  for (const std::string& text : options.prompts) {
    if (std::find(bank.texts().begin(), bank.texts().end(), text) != bank.texts().end()) continue;
    throw Error(StrCat("prompt \"", text, "\" is not in the bank"), path.string(),
                StrCat("it has ", bank.texts().size(), ", such as \"", bank.texts().front(),
                       "\"; with --text-encoder any text will do"));
  }
  const std::vector<Digest> prompts = EntriesOf(bank, options.prompts);
  const Digest negative = options.negative_prompt ? DigestText(*options.negative_prompt) : bank.negative();
  TextConditions text{{bank.Gather(prompts, config.text_len)}, bank.Gather({negative}, config.text_len)};
  const FirstFrames frames = FirstFramesFor(config, shape, bank);
  if (frames.latent.empty() || !options.images.empty()) return text;
  bank.RequireFirstFrames(frames);
  text.condition = bank.ConditionsOf(prompts, config.text_len);
  return text;
}

// Where spiece.model is, if not told: the pipeline's tokenizer, or the one near the encoder that was named.
std::filesystem::path FindTokenizer(const SampleOptions& options, const ModelParts& parts,
                                    const std::filesystem::path& encoder) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  if (options.text_encoder.empty() && !parts.tokenizer.empty()) return parts.tokenizer;
  std::filesystem::path place = std::filesystem::canonical(encoder);
  for (int level = 0; level < 3;
       ++level, place = place.parent_path()) {  // a pipeline, its text_encoder/, or a file in that
    if (std::filesystem::exists(place / "tokenizer")) return place / "tokenizer";
  }
  throw Error("no tokenizer near the text encoder", encoder.string(),
              "name spiece.model or its folder with --tokenizer");
}

TextConditions FromEncoder(const SampleOptions& options, const ModelParts& parts, const WanConfig& config,
                           bool wants_negative) {
  if (options.prompts.empty()) throw Error("no prompts", "", "give --prompt \"a cat on a wall\" or --prompt-file");
  const auto folder = options.text_encoder.empty() ? parts.text_encoder : options.text_encoder;
  if (!std::filesystem::exists(folder)) throw Error("no such text encoder", folder.string());
  std::vector<std::string> texts = options.prompts;
  if (wants_negative) texts.push_back(options.negative_prompt.value_or(kWanNegativePrompt));

  TokenizerClient tokenizer(FindTokenizer(options, parts, folder));
  std::vector<std::vector<std::int64_t>> ids;
  for (const std::string& text : texts) ids.push_back(tokenizer.Encode(CleanPrompt(text), config.text_len));
  const Umt5Encoder encoder = Umt5Encoder::Load(folder, at::Device(options.device));
  std::optional<ProgressLine> line;
  const std::vector<at::Tensor> rows = encoder.EncodeAll(ids, [&](std::int64_t done, std::int64_t total) {
    if (!line) line.emplace("encoding prompts", total);
    line->Update(done);
  });
  std::vector<at::Tensor> padded;
  for (const at::Tensor& r : rows) padded.push_back(Padded(r, config, folder.string()));
  TextConditions text;
  if (wants_negative) {
    text.negative = padded.back();
    padded.pop_back();
  }
  text.condition.text = at::cat(padded);
  return text;
}

}  // namespace

TextConditions LoadText(const SampleOptions& options, const ModelParts& parts, const WanConfig& config,
                        const std::vector<std::int64_t>& shape, bool wants_negative) {
  if (!options.embeddings.empty()) return FromEmbeddings(options.embeddings, config, wants_negative);
  if (!options.prompt_bank.empty()) return FromBank(options.prompt_bank, options, config, shape);
  if (!options.text_encoder.empty() || !parts.text_encoder.empty())
    return FromEncoder(options, parts, config, wants_negative);
  const std::filesystem::path beside = options.model / "prompt_bank.safetensors";
  if (std::filesystem::exists(beside)) return FromBank(beside, options, config, shape);
  throw Error("no prompts: no text encoder, prompt bank or embeddings", options.model.string(),
              "give --text-encoder, --prompt-bank or --embeddings");
}

}  // namespace sgmd
