#include "pipeline/data/prompt_bank.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/error/error.h"
#include "pipeline/flow/random.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {
namespace {

constexpr char kWordEncoder[] = "words-2";  // words-1 drew other vectors; its banks are read as any other

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
  if (!texts.is_array() || texts.empty())
    throw Error("metadata \"sgmd.prompts\" is not a list of texts", path.string());
  bank.texts_ = texts.get<std::vector<std::string>>();
  for (const std::string& text : bank.texts_) bank.prompts_.push_back(DigestText(text));
  bank.negative_ = DigestText(RequiredMetadata(bank.file_, "sgmd.negative"));
  bank.encoder_ = RequiredMetadata(bank.file_, kPromptEncoderKey);
  bank.text_dim_ = -1;
  std::vector<Digest> all = bank.prompts_;
  all.push_back(bank.negative_);
  for (const Digest& digest : all) {
    const TensorView& rows = bank.file_.At(digest.Hex());
    if (bank.text_dim_ < 0 && !rows.shape.empty()) bank.text_dim_ = rows.shape.back();
    if (rows.shape.size() != 2 || rows.shape[1] != bank.text_dim_ ||
        (rows.dtype != DType::kF32 && rows.dtype != DType::kBF16)) {
      throw Error("prompt " + rows.name + " is not float32 or bfloat16 [rows, text_dim] like the others",
                  path.string());
    }
    bank.longest_ = std::max(bank.longest_, rows.shape[0]);
  }
  return bank;
}

void PromptBank::RequireFits(std::int64_t text_dim, std::int64_t text_len) const {
  const std::string where = file_.path().string();
  if (text_dim != text_dim_) {
    throw Error(StrCat("the prompt bank has text_dim ", text_dim_, ", the model ", text_dim), where,
                "make the bank with the model's own text encoder: sgmd-encode");
  }
  if (longest_ > text_len) {
    throw Error(StrCat("the prompt bank has prompts of ", longest_, " rows, the model takes ", text_len), where,
                StrCat("make the bank with sgmd-encode --max-length ", text_len));
  }
}

at::Tensor PromptBank::Gather(const std::vector<Digest>& prompts, std::int64_t text_len) const {
  std::vector<at::Tensor> padded;
  for (const Digest& digest : prompts) {
    const TensorView* view = file_.Find(digest.Hex());
    if (view == nullptr) {
      throw Error("prompt " + digest.Hex() + " is not in the bank", file_.path().string(),
                  "every node of a run must use the same prompt bank");
    }
    const at::Tensor rows = CopyToTensor(*view).to(at::kFloat);
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
  std::vector<at::Tensor> rows;
  std::vector<TensorView> views;
  std::vector<std::string> texts = prompts;
  texts.push_back(negative);
  for (const std::string& text : texts) {
    rows.push_back(EncodeWords(text, text_dim));
    views.push_back(ViewOf(DigestText(text).Hex(), rows.back()));
  }
  WritePromptBank(path, views, prompts, negative, {{kPromptEncoderKey, kWordEncoder}});
}

void WritePromptBank(const std::filesystem::path& path, std::span<const TensorView> rows,
                     const std::vector<std::string>& prompts, const std::string& negative, Metadata metadata) {
  if (!metadata.contains(kPromptEncoderKey)) throw Error("a prompt bank names its encoder", path.string());
  metadata["sgmd.prompts"] = nlohmann::json(prompts).dump();
  metadata["sgmd.negative"] = negative;
  WriteSafetensors(path, rows, std::move(metadata));
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
