// The tensors of a model folder, whether they lie in one safetensors file or in several with an index.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/storage/safetensors.h"
#include "common/storage/tensor_part.h"

namespace sgmd {

/// Every tensor of one model by name, mapped and validated. Views stay valid while this object or a copy of it lives.
class ShardedSafetensors {
 public:
  /// `path`: a .safetensors file; an index (*.safetensors.index.json, wan_facts §6: {"weight_map": {tensor: file}}); or
  /// a folder that holds one index, or else exactly one .safetensors file. Throws Error on anything missing or
  /// ambiguous, on a shard that lacks a tensor the index promises or holds one that it does not, and as
  /// SafetensorsFile::Open does.
  static ShardedSafetensors Open(const std::filesystem::path& path);
  /// The tensors that the files of several ranks make together (tensor_part.h). What lies in parts is put together in
  /// memory. Throws Error as TensorParts::Open does.
  static ShardedSafetensors OfRanks(const std::vector<std::filesystem::path>& files);

  /// By file, then in file order.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  /// Null when absent.
  const TensorView* Find(std::string_view name) const;
  /// Throws Error naming the model and the tensor when absent.
  const TensorView& At(std::string_view name) const;
  /// Of the first file.
  const Metadata& metadata() const { return files_.front().metadata(); }
  /// As SafetensorsFile::Release.
  void Release(const TensorView& view) const {
    for (const SafetensorsFile& file : files_) file.Release(view.bytes);
  }
  /// What was opened: the file, or the index.
  const std::filesystem::path& path() const { return path_; }

 private:
  void Add(SafetensorsFile file);

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::shared_ptr<const TensorParts> parts_;                              // of ranks
  std::vector<std::shared_ptr<const std::vector<std::byte>>> assembled_;  // what lies in parts there
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace sgmd
