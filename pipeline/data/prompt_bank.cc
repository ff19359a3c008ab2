#include "pipeline/data/prompt_bank.h"

#include <ATen/ATen.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/error/error.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/tensor_bytes.h"

namespace sgmd {
namespace {

constexpr char kWordEncoder[] = "words-1";

const std::string& RequiredMetadata(const SafetensorsFile& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end()) {
    throw Error(StrCat("not a prompt bank: metadata \"", key, "\" is missing"), file.path().string());
  }
  return it->second;
}

at::Tensor EncodeWords(const std::string& prompt, std::int64_t text_dim) {
  std::vector<at::Tensor> rows{at::zeros({0, text_dim})};
  std::istringstream words(prompt);
  for (std::string word; words >> word;) rows.push_back(Noise({1, text_dim}, SeedFor(0, 0, 0, word)));
  return at::cat(rows);
}

}  // namespace

PromptBank PromptBank::Open(const std::filesystem::path& path) {
  PromptBank bank(SafetensorsFile::Open(path));
  const auto texts = nlohmann::json::parse(RequiredMetadata(bank.file_, "sgmd.prompts"), nullptr, false);
  if (!texts.is_array() || texts.empty()) throw Error("metadata \"sgmd.prompts\" is not a list of texts", path.string());
  bank.texts_ = texts.get<std::vector<std::string>>();
  for (const std::string& text : bank.texts_) bank.prompts_.push_back(DigestText(text));
  bank.negative_ = DigestText(RequiredMetadata(bank.file_, "sgmd.negative"));
  for (const Digest& digest : bank.prompts_) bank.file_.At(digest.Hex());
  bank.file_.At(bank.negative_.Hex());
  return bank;
}

at::Tensor PromptBank::Gather(const std::vector<Digest>& prompts, std::int64_t text_len) const {
  std::vector<at::Tensor> padded;
  for (const Digest& digest : prompts) {
    const TensorView* view = file_.Find(digest.Hex());
    if (view == nullptr) {
      throw Error("prompt " + digest.Hex() + " is not in the bank", file_.path().string(),
                  "every node of a run must use the same prompt bank");
    }
    const at::Tensor rows = CopyToTensor(*view);
    if (rows.size(0) > text_len) {
      throw Error(StrCat("prompt ", digest.Hex(), " has ", rows.size(0), " rows, the model takes ", text_len),
                  file_.path().string());
    }
    padded.push_back(at::constant_pad_nd(rows, {0, 0, 0, text_len - rows.size(0)}));
  }
  return at::stack(padded);
}

at::Tensor PromptBank::GatherNegative(std::int64_t batch, std::int64_t text_len) const {
  return Gather(std::vector<Digest>(batch, negative_), text_len);
}

void WriteWordPromptBank(const std::filesystem::path& path, const std::vector<std::string>& prompts,
                         const std::string& negative, std::int64_t text_dim) {
  NamedTensors tensors;
  for (const std::string& text : prompts) tensors.emplace_back(DigestText(text).Hex(), EncodeWords(text, text_dim));
  tensors.emplace_back(DigestText(negative).Hex(), EncodeWords(negative, text_dim));
  SaveTensors(path, tensors,
              {{"sgmd.encoder", kWordEncoder}, {"sgmd.prompts", nlohmann::json(prompts).dump()}, {"sgmd.negative", negative}});
}

at::Tensor PromptsToTensor(const std::vector<Digest>& prompts) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(prompts.size()), 16}, at::kByte);
  auto* out = tensor.mutable_data_ptr<std::uint8_t>();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::memcpy(out + 16 * i, &prompts[i].hi, 8);
    std::memcpy(out + 16 * i + 8, &prompts[i].lo, 8);
  }
  return tensor;
}

std::vector<Digest> PromptsFromTensor(const at::Tensor& tensor) {
  if (tensor.dim() != 2 || tensor.size(1) != 16 || tensor.scalar_type() != at::kByte) {
    throw Error(StrCat("prompts must be uint8 [B, 16], got ", tensor.sizes()));
  }
  std::vector<Digest> prompts(tensor.size(0));
  const at::Tensor bytes = tensor.contiguous();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::memcpy(&prompts[i].hi, bytes.const_data_ptr<std::uint8_t>() + 16 * i, 8);
    std::memcpy(&prompts[i].lo, bytes.const_data_ptr<std::uint8_t>() + 16 * i + 8, 8);
  }
  return prompts;
}

}  // namespace sgmd
