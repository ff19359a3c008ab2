#include "pipeline/training/state_files.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <set>
#include <span>

#include "common/error/error.h"
#include "common/storage/checkpoint_layout.h"
#include "common/storage/tensor_part.h"

namespace sgmd {

// The parameter that a tensor is called as.
const ParameterPlaces::value_type* StateFiles::ParameterOf(const std::string& name) const {
  for (const auto& place : places_) {
    const std::string& parameter = place.first;
    if (name == parameter || name.starts_with(parameter + ".")) return &place;
  }
  return nullptr;
}

Slices StateFiles::PlacesOf(const std::string& name, const at::Tensor& tensor) const {
  const auto* parameter = ParameterOf(name);
  if (parameter == nullptr) return {{name, tensor.sizes().vec(), 0, tensor.numel(), 0}};
  Slices named = parameter->second;
  for (Slice& slice : named) slice.name += name.substr(parameter->first.size());
  return named;
}

std::string StateFiles::Save(const std::filesystem::path& folder, std::string_view state,
                             const NamedTensors& tensors) const {
  const std::string file = StateFileName(role_, state, rank_, ranks_);
  std::vector<at::Tensor> held;
  std::vector<TensorPart> parts;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor flat = held.emplace_back(tensor.detach().to(at::kCPU).contiguous().view({-1}));
    for (const Slice& slice : PlacesOf(name, tensor)) {
      if (slice.count == 0 && tensor.numel() > 0) continue;
      TensorPart part;
      part.view = ViewOf(slice.name, flat.narrow(0, slice.at, slice.count));
      part.shape = slice.shape;
      part.offset = slice.offset;
      part.replica = ParameterOf(name) == nullptr ? rank_ : 0;
      if (slice.count == c10::multiply_integers(slice.shape)) part.view.shape = slice.shape;
      parts.push_back(std::move(part));
    }
  }
  WriteTensorParts(folder / file, parts);
  return file;
}

void StateFiles::Load(const std::filesystem::path& folder, std::string_view state, const NamedTensors& tensors) const {
  const c10::NoGradGuard no_grad;
  const TensorParts stored = TensorParts::Open(StateFilesIn(folder, role_, state));
  std::string problems;
  std::set<std::string> wanted;
  for (const auto& [name, tensor] : tensors) {
    for (const Slice& slice : PlacesOf(name, tensor)) {
      wanted.insert(slice.name);
      const auto found = stored.tensors().find(slice.name);
      if (found == stored.tensors().end()) {
        problems += StrCat("\n  missing: ", slice.name);
      } else if (found->second.shape != slice.shape) {
        problems += StrCat("\n  shape of ", slice.name, ": file ", at::IntArrayRef(found->second.shape), ", model ",
                           at::IntArrayRef(slice.shape));
      }
    }
  }
  for (const auto& [name, tensor] : stored.tensors()) {
    if (!wanted.contains(name)) problems += StrCat("\n  unexpected: ", name);
  }
  if (!problems.empty()) {
    throw Error(StrCat("the ", state, " of the ", role_, " does not fit the model:", problems), folder.string(),
                "is it a checkpoint of another experiment?");
  }
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor flat = tensor.view({-1});
    for (const Slice& slice : PlacesOf(name, tensor)) {
      const at::Tensor piece =
          at::empty({slice.count}, at::TensorOptions(ToTorch(stored.tensors().at(slice.name).dtype)));
      stored.Read(slice.name, slice.offset,
                  std::span(static_cast<std::byte*>(piece.mutable_data_ptr()), piece.nbytes()));
      flat.narrow(0, slice.at, slice.count).copy_(piece);
    }
  }
}

}  // namespace sgmd
