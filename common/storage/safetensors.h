// The safetensors format (wan_facts §6): u64 header length, JSON header, tensors. Readers map, writers are atomic.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/storage/tensor_view.h"

namespace sgmd {

using Metadata = std::map<std::string, std::string>;

/// A memory-mapped, fully validated file. Views stay valid while this object or a copy of it lives.
class SafetensorsFile {
 public:
  /// Throws Error (naming file and offending tensor) on anything outside the format: header length over 100,000,000 or
  /// past the end, not JSON, duplicate or unknown keys, unknown dtype, shape and offsets that disagree, holes,
  /// overlaps, trailing bytes.
  static SafetensorsFile Open(const std::filesystem::path& path);

  /// In file order.
  const std::vector<TensorView>& tensors() const;
  /// Null when absent.
  const TensorView* Find(std::string_view name) const;
  /// Throws Error naming the file and the tensor when absent.
  const TensorView& At(std::string_view name) const;
  const Metadata& metadata() const;
  const std::filesystem::path& path() const;

 private:
  struct Mapping;
  explicit SafetensorsFile(std::shared_ptr<const Mapping> mapping);
  std::shared_ptr<const Mapping> mapping_;
};

/// Writes `path` through a temporary file, fsync and rename: the old file or the new one, never half of either. Tensors
/// are laid out by descending element size, then name, as the reference writer does. Adds {"format":"pt"}.
/// Throws Error on a duplicate or empty name, a size that does not match its shape, or an I/O failure (disk full).
void WriteSafetensors(const std::filesystem::path& path, std::span<const TensorView> tensors, Metadata metadata = {});

}  // namespace sgmd
