// The state of a trained role in files of a checkpoint (common/storage/checkpoint_layout.h): one file a state in a
// group of one, else one for each rank, which any other number of ranks can read.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/parallel/shard_layout.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// Where the parameters of one rank lie in those of the model, by the rank's name of each.
using ParameterPlaces = std::map<std::string, Slices>;

/// One rank's part of a role's states.
class StateFiles {
 public:
  StateFiles(std::string role, int rank, int ranks, ParameterPlaces places)
      : role_(std::move(role)), rank_(rank), ranks_(ranks), places_(std::move(places)) {}

  const ParameterPlaces& places() const { return places_; }

  /// Writes the file of `state` into `folder`; returns its name. A tensor of `tensors` is called as a parameter of
  /// `places`, or "<parameter>.<what>": it lies as that parameter does. Others are the same on every rank.
  std::string Save(const std::filesystem::path& folder, std::string_view state, const NamedTensors& tensors) const;
  /// Copies into `tensors` what the files of `state` in `folder` have of them, however many ranks wrote it. Throws
  /// Error naming each missing and unexpected tensor and each shape that differs, or a rank whose file is missing.
  void Load(const std::filesystem::path& folder, std::string_view state, const NamedTensors& tensors) const;

 private:
  const ParameterPlaces::value_type* ParameterOf(const std::string& name) const;
  // What of the model's tensors lies in a rank's tensor.
  Slices PlacesOf(const std::string& name, const at::Tensor& tensor) const;

  std::string role_;
  int rank_, ranks_;
  ParameterPlaces places_;
};

}  // namespace sgmd
