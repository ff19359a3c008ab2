#include "pipeline/data/prompt_bank.h"

#include <ATen/ATen.h>

#include <cstring>
#include <sstream>

#include "common/error/error.h"
#include "pipeline/flow/random.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {
namespace {

constexpr char kWordEncoder[] = "words-2";  // words-1 drew other vectors; its banks are read as any other

at::Tensor EncodeWords(const std::string& prompt, std::int64_t text_dim) {
  std::vector<at::Tensor> rows{at::zeros({0, text_dim})};
  std::istringstream words(prompt);
  for (std::string word; words >> word;) rows.push_back(Noise({1, text_dim}, SeedFor(0, 0, 0, word)));
  return at::cat(rows);
}

}  // namespace

at::Tensor PromptBank::Gather(const std::vector<Digest>& prompts, std::int64_t text_len) const {
  std::vector<at::Tensor> padded;
  for (const Digest& digest : prompts) {
    const at::Tensor rows = CopyToTensor(Rows(digest)).to(at::kFloat);
    if (rows.size(0) > text_len) {
      throw Error(StrCat("prompt ", digest.Hex(), " has ", rows.size(0), " rows, the model takes ", text_len),
                  file().path().string());
    }
    padded.push_back(at::constant_pad_nd(rows, {0, 0, 0, text_len - rows.size(0)}));
  }
  return at::stack(padded);
}

Conditioning PromptBank::ConditionsOf(const std::vector<Digest>& prompts, std::int64_t text_len) const {
  Conditioning condition{Gather(prompts, text_len)};
  if (first_frames().latent.empty()) return condition;
  std::vector<at::Tensor> images, clip;
  for (const Digest& prompt : prompts) {
    images.push_back(CopyToTensor(ImageOf(prompt)).to(at::kFloat));
    if (first_frames().clip_dim > 0) clip.push_back(CopyToTensor(ClipOf(prompt)).to(at::kFloat));
  }
  condition.image = at::stack(images);
  if (!clip.empty()) condition.clip = at::stack(clip);
  return condition;
}

at::Tensor PromptBank::GatherNegative(std::int64_t batch, std::int64_t text_len) const {
  return Gather(std::vector<Digest>(batch, negative()), text_len);
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
