// The weights of a student on their way into a file: names, dtype, bytes.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "nodes/exporter/student_source.h"
#include "pipeline/models/lora.h"

namespace sgmd {

/// What the exported file calls the tensor with this original name.
using Naming = std::function<std::string(const std::string& original)>;

class StudentWeights {
 public:
  /// Of adapters the merged model: the experiment's teacher with them added in float32, a tensor at a time as it is
  /// written. Throws Error unless the source (or that teacher) holds exactly the tensors of the configuration, and when
  /// the teacher is not the one that the adapters were trained on. `student` must outlive this.
  StudentWeights(const StudentSource& student, DType dtype, Naming naming);

  std::int64_t bytes() const;  // of all tensors, converted
  std::int64_t count() const { return static_cast<std::int64_t>(tensors_.size()); }

  /// One safetensors file at `path`, or with more than `shard_bytes` (0: no limit) shards and an index in its folder,
  /// named as Diffusers names them. Metadata says where the weights are from. Shows progress.
  void Write(const std::filesystem::path& path, std::int64_t shard_bytes) const;
  /// Opens what Write made and throws Error on the first tensor whose bytes are not those of the source, converted.
  void Verify(const std::filesystem::path& written) const;

 private:
  struct Tensor {
    TensorEntry entry;  // as it is written
    const TensorView* view;
    const LoraPair* pair = nullptr;  // to be added
  };
  class Converted;
  void WriteFile(const std::filesystem::path& path, std::size_t first, std::size_t last,
                 std::int64_t done_before) const;

  const StudentSource& student_;
  ShardedSafetensors full_;  // every tensor of the model: the student's, or the base's
  std::map<std::string, LoraPair> pairs_;
  double scale_ = 1;
  std::vector<Tensor> tensors_;  // in the order of the model's parameters
};

}  // namespace sgmd
