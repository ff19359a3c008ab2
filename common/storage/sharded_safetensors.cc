#include "common/storage/sharded_safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr std::string_view kIndexEnd = ".safetensors.index.json", kFileEnd = ".safetensors";

std::vector<std::filesystem::path> FilesEndingIn(const std::filesystem::path& folder, std::string_view end) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().ends_with(end)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The one index of a folder, or else its one file.
std::filesystem::path Choose(const std::filesystem::path& folder) {
  for (const std::string_view end : {kIndexEnd, kFileEnd}) {
    const auto found = FilesEndingIn(folder, end);
    if (found.size() == 1) return found.front();
    if (found.size() > 1) {
      throw Error(StrCat(found.size(), " files end in ", end, "; which one is meant is not clear"), folder.string(),
                  "name the file itself, or keep one model in the folder");
    }
  }
  throw Error("no *.safetensors here", folder.string(),
              "weights are read from safetensors files, single or sharded with an index");
}

std::map<std::string, std::string> WeightMap(const std::filesystem::path& index) {
  const auto json = nlohmann::json::parse(ReadFile(index), nullptr, /*allow_exceptions=*/false);
  const bool whole =
      json.is_object() && json.contains("weight_map") && json["weight_map"].is_object() && !json["weight_map"].empty();
  if (!whole) throw Error("not an index: \"weight_map\" is missing or empty", index.string());
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
      throw Error(StrCat("the file of \"", tensor, "\" is not a plain file name"), index.string());
    }
    files[tensor] = file.get<std::string>();
  }
  return files;
}

}  // namespace

ShardedSafetensors ShardedSafetensors::Open(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) throw Error("no such file or folder", path.string());
  ShardedSafetensors all;
  all.path_ = std::filesystem::is_directory(path) ? Choose(path) : path;
  if (!all.path_.filename().string().ends_with(kIndexEnd)) {
    all.Add(SafetensorsFile::Open(all.path_));
    return all;
  }
  const auto weight_map = WeightMap(all.path_);
  std::set<std::string> shards;
  for (const auto& [tensor, file] : weight_map) shards.insert(file);
  for (const std::string& shard : shards) {
    const auto file = all.path_.parent_path() / shard;
    if (!std::filesystem::exists(file))
      throw Error("shard " + shard + " is missing", all.path_.string(), "download it again");
    all.Add(SafetensorsFile::Open(file));
    for (const TensorView& view : all.files_.back().tensors()) {
      const auto promised = weight_map.find(view.name);
      if (promised == weight_map.end() || promised->second != shard) {
        throw Error("holds \"" + view.name + "\", which the index does not name there", file.string());
      }
    }
  }
  for (const auto& [tensor, file] : weight_map) {
    if (all.Find(tensor) == nullptr)
      throw Error("lacks \"" + tensor + "\", which the index promises", (all.path_.parent_path() / file).string());
  }
  return all;
}

ShardedSafetensors ShardedSafetensors::OfRanks(const std::vector<std::filesystem::path>& files) {
  if (files.size() == 1) return Open(files.front());
  ShardedSafetensors all;
  all.path_ = files.front();
  all.files_.push_back(SafetensorsFile::Open(files.front()));  // for its metadata
  const auto parts = std::make_shared<TensorParts>(TensorParts::Open(files));
  for (const auto& [name, tensor] : parts->tensors()) {
    TensorView view{name, tensor.dtype, tensor.shape, {}};
    if (const auto bytes = parts->InOnePiece(name)) {
      view.bytes = *bytes;
    } else {
      const auto buffer = std::make_shared<std::vector<std::byte>>(CheckedByteSize(tensor.dtype, tensor.shape));
      parts->Read(name, 0, *buffer);
      view.bytes = *buffer;
      all.assembled_.push_back(buffer);
    }
    all.by_name_[name] = all.tensors_.size();
    all.tensors_.push_back(std::move(view));
  }
  all.parts_ = parts;
  return all;
}

void ShardedSafetensors::Add(SafetensorsFile file) {
  for (const TensorView& view : file.tensors()) {
    by_name_[view.name] = tensors_.size();
    tensors_.push_back(view);
  }
  files_.push_back(std::move(file));
}

const TensorView* ShardedSafetensors::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

const TensorView& ShardedSafetensors::At(std::string_view name) const {
  if (const TensorView* view = Find(name)) return *view;
  throw Error(StrCat("tensor \"", name, "\" is missing"), path_.string());
}

}  // namespace sgmd
