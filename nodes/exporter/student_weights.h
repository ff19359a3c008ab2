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
  /// Of a transformer of `student`. Of adapters the merged model: the one that the student started from with them added
  /// in float32, a tensor at a time as it is written. What was not trained and is not in the source is of that model,
  /// too. Throws Error unless the source (or that model) holds exactly the tensors of the configuration, and when that
  /// model is needed and is not the one that the run started from.
  StudentWeights(const StudentSource& student, const StudentExpert& expert, DType dtype, const Naming& naming);
  StudentWeights(const StudentWeights&) = delete;

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

  ShardedSafetensors full_;  // every tensor of the transformer: the student's, or the base's
  Metadata metadata_;        // where the weights are from
  std::map<std::string, LoraPair> pairs_;
  double scale_ = 1;
  std::vector<Tensor> tensors_;  // in the order of the model's parameters
};

}  // namespace sgmd
