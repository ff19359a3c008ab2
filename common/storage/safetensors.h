// The safetensors format (wan_facts §6): u64 header length, JSON header, tensors. Readers map, writers are atomic.
#pragma once

#include <filesystem>
#include <functional>
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
  /// Lets go of the memory behind `bytes` of this file, which come from the disk again when they are read again: for
  /// going through a file that is as large as the memory. Bytes that are not of this file are left alone.
  void Release(std::span<const std::byte> bytes) const;

 private:
  struct Mapping;
  explicit SafetensorsFile(std::shared_ptr<const Mapping> mapping);
  std::shared_ptr<const Mapping> mapping_;
};

/// Writes `path` through a temporary file, fsync and rename: the old file or the new one, never half of either. Tensors
/// are laid out by descending element size, then name, as the reference writer does. Adds {"format":"pt"}.
/// Throws Error on a duplicate or empty name, a size that does not match its shape, or an I/O failure (disk full).
void WriteSafetensors(const std::filesystem::path& path, std::span<const TensorView> tensors, Metadata metadata = {});

/// A tensor to be written whose bytes come later.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
};

/// As WriteSafetensors, one tensor at a time, for models that do not fit into memory twice. `bytes_of` is called once
/// for each tensor with its index in `tensors`, in the order of the file; what it returns is written before the next
/// call.
void StreamSafetensors(const std::filesystem::path& path, std::span<const TensorEntry> tensors,
                       const std::function<std::span<const std::byte>(std::size_t index)>& bytes_of,
                       Metadata metadata = {});

}  // namespace sgmd
