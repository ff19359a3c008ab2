#include "nodes/encoder/bank_job.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/progress.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/image/picture.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/text/prompt_cleaning.h"

namespace sgmd {
namespace {

// One job at a time in a folder; the kernel lets go when the process ends.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) ThrowErrno("cannot open", folder.string());
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(fd_);
    throw Error("another process is making this bank", folder.string(), "wait for it, or write to another --out");
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;

 private:
  int fd_;
};

struct Prompt {
  std::string name;  // in the bank
  std::vector<std::int64_t> ids;
};

class BankJob {
 public:
  BankJob(const BankJobOptions& options, const Umt5Encoder& encoder, TokenizerClient& tokenizer,
          const FirstFrameEncoder* first_frames)
      : o_(options),
        encoder_(encoder),
        tokenizer_(tokenizer),
        first_frames_(first_frames),
        parts_(options.out.string() + ".parts") {
    std::filesystem::create_directories(parts_);
    lock_.emplace(parts_);
    settings_ = {{kPromptEncoderKey, "umt5 " + EncoderDigest().Hex()},
                 {"sgmd.tokenizer", tokenizer.digest().Hex()},
                 {"sgmd.max_length", std::to_string(o_.max_length)},
                 {"sgmd.rows", std::string(Name(FromTorch(o_.dtype)))}};
    if (!o_.pictures.empty()) settings_.emplace(kImageEncoderKey, first_frames_->identity());
  }

  ~BankJob() {
    std::error_code not_empty;  // then there is work to go on from
    std::filesystem::remove(parts_, not_empty);
  }

  void Run() {
    Adopt();
    const std::vector<Prompt> pending = Tokenise();
    Encode(pending);
    EncodePictures();
    WriteBank();
    std::filesystem::remove_all(parts_);
  }

 private:
  Digest EncoderDigest() const {
    std::optional<ProgressLine> progress;
    std::int64_t shown = 0;
    return encoder_.digest([&](std::int64_t done, std::int64_t total) {
      if (done >> 20 == shown) return;
      if (!progress) progress.emplace("reading the encoder, MiB", total >> 20);
      progress->Update(shown = done >> 20);
    });
  }

  void Keep(SafetensorsFile file, const std::string& what) {
    for (const auto& [key, value] : settings_) {
      const auto it = file.metadata().find(key);
      if (it != file.metadata().end() && it->second == value) continue;
      throw Error(StrCat(what, " was made with ", key.substr(5), " ",
                         it == file.metadata().end() ? "unknown" : it->second, ", now it is ", value),
                  file.path().string(), "remove it, or write to another --out");
    }
    for (const TensorView& view : file.tensors()) rows_.emplace(view.name, view);
    files_.push_back(std::move(file));
  }

  // What earlier runs have left.
  void Adopt() {
    if (std::filesystem::exists(o_.out)) Keep(SafetensorsFile::Open(o_.out), "the bank that is there already");
    for (const auto& entry : std::filesystem::directory_iterator(parts_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with('.')) continue;  // it was being written when the process ended
      Keep(SafetensorsFile::Open(entry.path()), "the work kept from an earlier run");
    }
  }

  std::vector<std::int64_t> Ids(const std::string& text, std::int64_t* cut) {
    std::vector<std::int64_t> ids = tokenizer_.Encode(CleanPrompt(text), o_.max_length + 1);
    if (static_cast<std::int64_t>(ids.size()) > o_.max_length) {  // the last is the end-of-text token: it stays
      ids.erase(ids.end() - 2);
      ++*cut;
    }
    return ids;
  }

  std::vector<Prompt> Tokenise() {
    std::vector<Prompt> pending;
    std::vector<std::string> texts = o_.prompts;
    if (std::find(texts.begin(), texts.end(), o_.negative) == texts.end()) texts.push_back(o_.negative);
    std::int64_t cut = 0, kept = 0;
    ProgressLine progress("tokenising", static_cast<std::int64_t>(texts.size()));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::string name = DigestText(texts[i]).Hex();
      if (!Want(name)) continue;  // a text of several pictures
      if (rows_.contains(name)) {
        ++kept;
      } else {
        pending.push_back({name, Ids(texts[i], &cut)});
      }
      progress.Update(static_cast<std::int64_t>(i) + 1);
    }
    if (kept > 0) LogInfo(kept, " of ", texts.size(), " prompts were encoded before");
    if (cut > 0) LogWarning(cut, " prompts are longer than ", o_.max_length, " tokens and were cut");
    return pending;
  }

  void Encode(const std::vector<Prompt>& pending) {
    std::int64_t total = 0, before = 0;
    for (const Prompt& prompt : pending) total += static_cast<std::int64_t>(prompt.ids.size());
    ProgressLine progress("encoding, tokens", total);
    for (std::size_t begin = 0; begin < pending.size(); begin += static_cast<std::size_t>(o_.group)) {
      const std::size_t end = std::min(pending.size(), begin + static_cast<std::size_t>(o_.group));
      std::vector<std::vector<std::int64_t>> ids;
      std::int64_t tokens = 0;
      for (std::size_t i = begin; i < end; ++i) {
        ids.push_back(pending[i].ids);
        tokens += static_cast<std::int64_t>(ids.back().size());
      }
      const auto rows = encoder_.EncodeAll(
          ids, [&](std::int64_t done, std::int64_t of) { progress.Update(before + tokens * done / of); });
      before += tokens;
      NamedTensors named;
      for (std::size_t i = begin; i < end; ++i) named.emplace_back(pending[i].name, rows[i - begin].to(o_.dtype));
      const auto part = parts_ / (named.front().first + ".safetensors");
      SaveTensors(part, named, settings_);
      Keep(SafetensorsFile::Open(part), "this part");
    }
  }

  // Each picture once, whatever number of prompts it has.
  void EncodePictures() {
    std::vector<const BankPicture*> pending;
    for (const BankPicture& picture : o_.pictures) {
      if (!Want(ImageTensor(picture.name))) continue;
      if (!rows_.contains(ImageTensor(picture.name))) pending.push_back(&picture);
    }
    std::optional<ProgressLine> progress;
    for (std::size_t i = 0; i < pending.size(); ++i) {
      const auto encoded =
          first_frames_->Encode(ReadPicture(pending[i]->file), [&](std::int64_t done, std::int64_t of) {
            if (!progress)
              progress.emplace("encoding pictures, latent frames", static_cast<std::int64_t>(pending.size()) * of);
            progress->Update(static_cast<std::int64_t>(i) * of + done);
          });
      NamedTensors named{{ImageTensor(pending[i]->name), encoded.latents.to(o_.dtype)}};
      if (encoded.clip.defined()) named.emplace_back(ClipTensor(pending[i]->name), encoded.clip.to(o_.dtype));
      const auto part = parts_ / (ImageTensor(pending[i]->name) + ".safetensors");
      SaveTensors(part, named, settings_);
      Keep(SafetensorsFile::Open(part), "this part");
    }
    for (const BankPicture& picture : o_.pictures) {
      if (rows_.contains(ClipTensor(picture.name))) Want(ClipTensor(picture.name));
    }
  }

  // False where the tensor was wanted before.
  bool Want(const std::string& name) {
    if (!wanted_names_.insert(name).second) return false;
    wanted_.push_back(name);
    return true;
  }

  void WriteBank() const {
    std::vector<TensorView> tensors;
    for (const std::string& name : wanted_) tensors.push_back(rows_.at(name));
    std::vector<std::string> images;
    for (const BankPicture& picture : o_.pictures) images.push_back(picture.name);
    WritePromptBank(o_.out, tensors, o_.prompts, o_.negative, settings_, images);
  }

  const BankJobOptions& o_;
  const Umt5Encoder& encoder_;
  TokenizerClient& tokenizer_;
  const FirstFrameEncoder* first_frames_;  // null without pictures
  std::filesystem::path parts_;
  std::optional<FolderLock> lock_;
  Metadata settings_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorView> rows_;  // by name, in files_
  std::vector<std::string> wanted_;
  std::set<std::string> wanted_names_;
};

}  // namespace

void RequireNothingLost(const BankJobOptions& o) {
  if (!std::filesystem::exists(o.out)) return;
  const PromptBank bank = PromptBank::Open(o.out);
  std::set<std::pair<std::string, std::string>> wanted;  // with their pictures
  for (std::size_t i = 0; i < o.prompts.size(); ++i)
    wanted.emplace(o.prompts[i], o.pictures.empty() ? "" : o.pictures[i].name);
  std::vector<std::string> lost;
  for (std::size_t i = 0; i < bank.texts().size(); ++i) {
    if (!wanted.contains({bank.texts()[i], bank.images().empty() ? "" : bank.images()[i]}))
      lost.push_back(bank.texts()[i]);
  }
  const std::string hint = "write to another --out, or replace the bank with --force";
  if (!lost.empty()) {
    throw Error(StrCat("the bank that is there has ", lost.size(), " of its ", bank.texts().size(),
                       " prompts that the new one would not have, such as \"", lost[0], "\""),
                o.out.string(), hint);
  }
  if (bank.negative() != DigestText(o.negative)) {
    throw Error("the bank that is there has another negative prompt", o.out.string(), hint);
  }
}

void MakeBank(const BankJobOptions& options, const Umt5Encoder& encoder, TokenizerClient& tokenizer,
              const FirstFrameEncoder* first_frames) {
  if (!options.force) RequireNothingLost(options);
  BankJob(options, encoder, tokenizer, first_frames).Run();
}

}  // namespace sgmd
