#include "pipeline/data/bank_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr char kImagesKey[] = "sgmd.images", kImage[] = "image.", kClip[] = "clip.";

const std::string& RequiredMetadata(const SafetensorsFile& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end()) {
    throw Error(StrCat("not a prompt bank: metadata \"", key, "\" is missing"), file.path().string());
  }
  return it->second;
}

std::vector<std::string> TextsIn(const SafetensorsFile& file, const char* key) {
  const auto texts = nlohmann::json::parse(RequiredMetadata(file, key), nullptr, false);
  const bool are_texts =
      texts.is_array() && std::all_of(texts.begin(), texts.end(), [](const auto& t) { return t.is_string(); });
  if (!are_texts || texts.empty())
    throw Error(StrCat("metadata \"", key, "\" is not a list of texts"), file.path().string());
  return texts.get<std::vector<std::string>>();
}

bool IsReal(const TensorView& tensor) { return tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16; }

std::string Shape(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += StrCat(text.empty() ? "[" : ", ", extent);
  return text + "]";
}

std::string WidthOf(const FirstFrames& frames) {
  return frames.clip_dim == 0 ? "no CLIP tokens" : StrCat("CLIP tokens of width ", frames.clip_dim);
}

}  // namespace

BankIndex BankIndex::Open(const std::filesystem::path& path) {
  BankIndex bank(SafetensorsFile::Open(path));
  bank.texts_ = TextsIn(bank.file_, "sgmd.prompts");
  bank.negative_ = DigestText(RequiredMetadata(bank.file_, "sgmd.negative"));
  bank.encoder_ = RequiredMetadata(bank.file_, kPromptEncoderKey);
  bank.ReadTexts();
  if (bank.file_.metadata().contains(kImagesKey)) bank.ReadImages();
  return bank;
}

// Their digests, and of their rows that they are there and alike.
void BankIndex::ReadTexts() {
  for (const std::string& text : texts_) prompts_.push_back(DigestText(text));
  text_dim_ = -1;
  std::vector<Digest> all = prompts_;
  all.push_back(negative_);
  for (const Digest& digest : all) {
    const TensorView& rows = file_.At(digest.Hex());
    if (text_dim_ < 0 && !rows.shape.empty()) text_dim_ = rows.shape.back();
    if (rows.shape.size() != 2 || rows.shape[1] != text_dim_ || !IsReal(rows)) {
      throw Error("prompt " + rows.name + " is not float32 or bfloat16 [rows, text_dim] like the others",
                  file_.path().string());
    }
    longest_ = std::max(longest_, rows.shape[0]);
  }
}

// What entries are with their images.
void BankIndex::ReadImages() {
  const std::string where = file_.path().string(), &encoder = RequiredMetadata(file_, kImageEncoderKey);
  images_ = TextsIn(file_, kImagesKey);
  if (images_.size() != texts_.size())
    throw Error(StrCat(images_.size(), " images for ", texts_.size(), " prompts"), where);
  for (std::size_t i = 0; i < images_.size(); ++i) {
    const TensorView& latents = file_.At(ImageTensor(images_[i]));
    const TensorView* clip = file_.Find(ClipTensor(images_[i]));
    const FirstFrames found{latents.shape, clip == nullptr || clip->shape.size() != 2 ? 0 : clip->shape[1]};
    if (i == 0) first_frames_ = found;
    const bool real = IsReal(latents) && (clip == nullptr || IsReal(*clip));
    if (latents.shape.size() != 4 || found != first_frames_ || !real) {
      throw Error(StrCat("image ", images_[i], " is not float32 or bfloat16 of the shape of the others"), where);
    }
    const Digest text = prompts_[i];
    prompts_[i] = EntryDigest(texts_[i], images_[i], encoder);
    entries_[prompts_[i]] = {text, images_[i]};
  }
}

void BankIndex::RequireFirstFrames(const FirstFrames& wanted) const {
  const std::string where = file_.path().string();
  if (wanted == first_frames_) return;
  if (wanted.latent.empty()) {
    throw Error("the prompt bank has first frames, and the model makes videos of a text alone", where,
                "make the bank without sgmd-encode --images");
  }
  if (first_frames_.latent.empty()) {
    throw Error("the prompt bank has no first frames, and the model makes videos of one", where,
                "make the bank with sgmd-encode --images");
  }
  if (wanted.latent != first_frames_.latent) {
    throw Error(StrCat("the first frames of the prompt bank are latents of ", Shape(first_frames_.latent),
                       ", the model takes ", Shape(wanted.latent), " for these videos"),
                where,
                "make the bank with the model's own VAE and the size and frames of these videos: sgmd-encode --vae "
                "--size --frames");
  }
  throw Error(
      StrCat("the prompt bank has ", WidthOf(first_frames_), " of its first frames, the model takes ", WidthOf(wanted)),
      where, "make the bank with sgmd-encode and the model's own image_encoder/, or without one");
}

void BankIndex::RequireFits(std::int64_t text_dim, std::int64_t text_len) const {
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

const TensorView& BankIndex::Rows(const Digest& prompt) const {
  const auto entry = entries_.find(prompt);
  const TensorView* view = file_.Find((entry == entries_.end() ? prompt : entry->second.text).Hex());
  if (view == nullptr) {
    throw Error("prompt " + prompt.Hex() + " is not in the bank", file_.path().string(),
                "every node of a run must use the same prompt bank");
  }
  return *view;
}

const std::string& BankIndex::ImageNameOf(const Digest& entry) const {
  const auto found = entries_.find(entry);
  if (found == entries_.end())
    throw Error("prompt " + entry.Hex() + " has no first frame in the bank", file_.path().string());
  return found->second.image;
}

const TensorView& BankIndex::ImageOf(const Digest& entry) const { return file_.At(ImageTensor(ImageNameOf(entry))); }
const TensorView& BankIndex::ClipOf(const Digest& entry) const { return file_.At(ClipTensor(ImageNameOf(entry))); }

void WritePromptBank(const std::filesystem::path& path, std::span<const TensorView> tensors,
                     const std::vector<std::string>& prompts, const std::string& negative, Metadata metadata,
                     const std::vector<std::string>& images) {
  if (!metadata.contains(kPromptEncoderKey)) throw Error("a prompt bank names its encoder", path.string());
  if (!images.empty() && !metadata.contains(kImageEncoderKey))
    throw Error("a prompt bank names what made its first frames", path.string());
  metadata["sgmd.prompts"] = nlohmann::json(prompts).dump();
  if (!images.empty()) metadata[kImagesKey] = nlohmann::json(images).dump();
  metadata["sgmd.negative"] = negative;
  WriteSafetensors(path, tensors, std::move(metadata));
}

Digest EntryDigest(const std::string& text, const std::string& image, const std::string& image_encoder) {
  return Hasher().Text(text).Text(image).Text(image_encoder).Finish();
}

std::string ImageTensor(const std::string& name) { return kImage + name; }
std::string ClipTensor(const std::string& name) { return kClip + name; }

}  // namespace sgmd
