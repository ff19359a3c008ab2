#include "nodes/exporter/student_weights.h"

#include <ATen/ATen.h>

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/config/run_folder.h"
#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/wan_files.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWeight = ".weight";
constexpr std::int64_t kMiB = 1 << 20, kWorthProgress = 1024 * kMiB;

std::int64_t SizeOf(const TensorEntry& entry) {
  return static_cast<std::int64_t>(CheckedByteSize(entry.dtype, entry.shape));
}

std::optional<ProgressLine> ProgressOf(const std::string& title, std::int64_t bytes) {
  std::optional<ProgressLine> line;
  if (bytes >= kWorthProgress) line.emplace(title + ", MiB", bytes / kMiB);
  return line;
}

std::filesystem::path ShardPath(const std::filesystem::path& path, std::size_t shard, std::size_t count) {
  char number[32];
  std::snprintf(number, sizeof number, "-%05zu-of-%05zu", shard + 1, count);
  return path.parent_path() / (path.stem().string() + number + ".safetensors");
}

// What is said where the model that the student started from is needed and is not there any more.
struct StartNeeded {
  const char *gone, *changed, *hint;
};
constexpr StartNeeded kForMerging{
    "the model that the adapters belong to is gone", "the adapters were not trained on what is there now",
    "without it --lora still writes the adapters, and student/ of a finished run has them merged"};
constexpr StartNeeded kForTheOther{"the model with the expert that was not trained is gone",
                                   "the expert that was not trained is not the one that is there now",
                                   "without it --original (--lora, of adapters) still writes what was trained"};

// The folder's name still stands in the experiment when other weights have been put there.
ShardedSafetensors OpenStart(const StudentSource& student, const std::string& expert, const StartNeeded& needed) {
  if (!student.experiment) throw Error("the run's experiment is missing", RunFolder{student.run}.Experiment().string());
  const Experiment& e = *student.experiment;
  const fs::path& start = ModelOf(e, Role::kGenerator);
  if (!fs::exists(start)) throw Error(needed.gone, start.string(), needed.hint);
  if (!student.identity.empty() && fs::exists(e.model.prompts) && ExperimentDigest(e).Hex() != student.identity) {
    throw Error(needed.changed, start.string(),
                StrCat("a model of the run or its prompt bank has changed since; ", needed.hint));
  }
  for (const Expert& found : FindExperts(start)) {
    if (found.name == expert) return ShardedSafetensors::Open(FindModel(found.model).weights);
  }
  throw Error(needed.changed, start.string(), needed.hint);
}

// A file with every tensor of the transformer.
ShardedSafetensors OpenFull(const StudentSource& student, const StudentExpert& expert) {
  if (!expert.weights) return OpenStart(student, expert.name, kForTheOther);
  return student.adapters ? OpenStart(student, expert.name, kForMerging) : *expert.weights;
}

// Every tensor of a transformer by its original name; of checkpoints also the counter that they keep with the average.
std::map<std::string, const TensorView*> TensorsOf(const ShardedSafetensors& files, const std::string& prefix) {
  std::map<std::string, const TensorView*> found;
  for (const auto& [name, view] : ByOriginalName(files)) {
    if (name.starts_with(prefix)) found.emplace(name.substr(prefix.size()), view);
  }
  return found;
}

Metadata MetadataOf(const StudentSource& student) {
  Metadata metadata;
  if (!student.kind.empty()) metadata["sgmd.weights"] = student.kind;
  if (student.step) metadata["sgmd.updates"] = std::to_string(*student.step);
  return metadata;
}

}  // namespace

// Holds the tensor that the bytes belong to.
class StudentWeights::Converted {
 public:
  explicit Converted(double scale) : scale_(scale) {}
  std::span<const std::byte> Of(const Tensor& t) {
    if (t.pair == nullptr && t.view->dtype == t.entry.dtype) return t.view->bytes;
    tensor_ = MappedTensor(*t.view);
    if (t.pair != nullptr) tensor_ = MergedWeight(tensor_, *t.pair, scale_);
    tensor_ = tensor_.to(ToTorch(t.entry.dtype)).contiguous();
    return {static_cast<const std::byte*>(tensor_.const_data_ptr()), tensor_.nbytes()};
  }

 private:
  double scale_;
  at::Tensor tensor_;
};

StudentWeights::StudentWeights(const StudentSource& student, const StudentExpert& expert, DType dtype,
                               const Naming& naming)
    : full_(OpenFull(student, expert)) {
  const bool own = expert.weights && !student.adapters;
  auto found = TensorsOf(full_, own ? expert.prefix : "");
  found.erase("ema.updates");  // pipeline/training/adamw.h
  const WanTransformer model(student.config, at::kMeta);
  RequireFit(found, model.parameters(), full_.path());
  if (expert.trained) metadata_ = MetadataOf(student);
  if (expert.weights && student.adapters) {
    pairs_ = LoraPairs(AdaptersOf(expert));
    RequirePlaces(pairs_, model.parameters());
    scale_ = LoraOf(*student.experiment).Scale();
  }
  for (const auto& [name, parameter] : model.parameters()) {
    const TensorView* view = found.at(name);
    const auto pair =
        name.ends_with(kWeight) ? pairs_.find(name.substr(0, name.size() - kWeight.size())) : pairs_.end();
    tensors_.push_back({{naming(name), dtype, view->shape}, view, pair == pairs_.end() ? nullptr : &pair->second});
  }
}

std::int64_t StudentWeights::bytes() const {
  std::int64_t sum = 0;
  for (const Tensor& tensor : tensors_) sum += SizeOf(tensor.entry);
  return sum;
}

void StudentWeights::WriteFile(const std::filesystem::path& path, std::size_t first, std::size_t last,
                               std::int64_t done_before) const {
  std::vector<TensorEntry> entries;
  for (std::size_t i = first; i < last; ++i) entries.push_back(tensors_[i].entry);
  auto progress = ProgressOf("writing " + path.filename().string(), bytes());
  Converted converted(scale_);
  std::int64_t done = done_before;
  const TensorView* previous = nullptr;
  StreamSafetensors(
      path, entries,
      [&](std::size_t i) {
        if (previous != nullptr) full_.Release(*previous);
        previous = tensors_[first + i].view;
        done += SizeOf(entries[i]);
        if (progress) progress->Update(done / kMiB);
        return converted.Of(tensors_[first + i]);
      },
      metadata_);
}

void StudentWeights::Write(const std::filesystem::path& path, std::int64_t shard_bytes) const {
  std::vector<std::size_t> ends;  // of each shard, in tensors
  std::int64_t filled = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const std::int64_t size = SizeOf(tensors_[i].entry);
    if (shard_bytes > 0 && filled > 0 && filled + size > shard_bytes) {
      ends.push_back(i);
      filled = 0;
    }
    filled += size;
  }
  ends.push_back(tensors_.size());
  if (ends.size() == 1) return WriteFile(path, 0, tensors_.size(), 0);
  nlohmann::ordered_json index{{"metadata", {{"total_size", bytes()}}}, {"weight_map", nlohmann::json::object()}};
  std::int64_t done = 0;
  for (std::size_t shard = 0, first = 0; shard < ends.size(); first = ends[shard++]) {
    const std::filesystem::path file = ShardPath(path, shard, ends.size());
    WriteFile(file, first, ends[shard], done);
    for (std::size_t i = first; i < ends[shard]; ++i) {
      index["weight_map"][tensors_[i].entry.name] = file.filename().string();
      done += SizeOf(tensors_[i].entry);
    }
  }
  WriteFileAtomically(path.string() + ".index.json", index.dump(2) + "\n");
}

void StudentWeights::Verify(const std::filesystem::path& written) const {
  const std::filesystem::path index = written.string() + ".index.json";
  const ShardedSafetensors file = ShardedSafetensors::Open(std::filesystem::exists(index) ? index : written);
  if (file.tensors().size() != tensors_.size())
    throw Error("reading back: the number of tensors differs", written.string());
  auto progress = ProgressOf("checking " + written.filename().string(), bytes());
  std::int64_t done = 0;
  Converted converted(scale_);
  for (const Tensor& tensor : tensors_) {
    const TensorView& view = file.At(tensor.entry.name);
    const std::span<const std::byte> expected = converted.Of(tensor);
    const bool equal = view.dtype == tensor.entry.dtype && view.shape == tensor.entry.shape &&
                       view.bytes.size() == expected.size() &&
                       (expected.empty() || std::memcmp(view.bytes.data(), expected.data(), expected.size()) == 0);
    if (!equal)
      throw Error("reading back: " + tensor.entry.name + " is not what was written", written.string(),
                  "is the disk failing?");
    file.Release(view);
    full_.Release(*tensor.view);
    done += SizeOf(tensor.entry);
    if (progress) progress->Update(done / kMiB);
  }
}

}  // namespace sgmd
