// Parts of tensors: how the state of a role lies in files when several ranks share it, so that any other number of
// ranks can read it.
//
// A file holds each part as a tensor of its own name. A whole tensor is stored in its shape, as any other. A part of
// one is stored flat, and the metadata "sgmd.parts" says where it belongs: a JSON object
//   {"<name>": {"shape": [<extents of the whole tensor>], "offset": <first element>, "replica": <number>}}
// with `offset` counted in elements of the whole tensor, row-major.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/storage/safetensors.h"

namespace sgmd {

/// Elements [offset, offset + view's elements) of a tensor of shape `shape`. Of several replicas (equal copies on
/// several ranks) the one with the lowest number is read.
struct TensorPart {
  TensorView view;                  // name, dtype, bytes; its own shape is that of the whole tensor, or flat
  std::vector<std::int64_t> shape;  // of the whole tensor
  std::int64_t offset = 0;          // elements, >= 0
  std::int64_t replica = 0;         // >= 0

  /// The whole of `view`.
  static TensorPart Whole(TensorView view);
};

/// Writes one rank's parts as a file of this form, atomically. Throws Error on a part that does not lie inside its
/// tensor, or as WriteSafetensors does.
void WriteTensorParts(const std::filesystem::path& path, std::span<const TensorPart> parts, Metadata metadata = {});

/// The tensors that the files of all ranks make together.
class TensorParts {
 public:
  /// Throws Error naming file and tensor where the parts of a tensor disagree in shape or dtype, overlap without being
  /// replicas, or leave a hole; and as SafetensorsFile::Open does.
  static TensorParts Open(const std::vector<std::filesystem::path>& files);

  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<std::int64_t> shape;
  };
  /// By name.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

  /// Copies the elements from `offset` on of tensor `name` into `out`, as many as fit in its bytes. Throws Error when
  /// there is no such tensor or the elements are not inside it.
  void Read(const std::string& name, std::int64_t offset, std::span<std::byte> out) const;

  /// The mapped bytes of a tensor that lies in one file as a whole; nothing of one that is in parts.
  std::optional<std::span<const std::byte>> InOnePiece(const std::string& name) const;

 private:
  void Add(const SafetensorsFile& file);
  void RequireWhole(const std::string& name, const Tensor& tensor) const;

  std::vector<SafetensorsFile> files_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::map<std::int64_t, TensorPart>> parts_;  // by name, then by offset; of replicas the lowest
};

}  // namespace sgmd
