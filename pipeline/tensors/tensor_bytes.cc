#include "pipeline/tensors/tensor_bytes.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <array>
#include <cstring>
#include <set>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 13> kTypes{{
    {DType::kBool, at::kBool},
    {DType::kU8, at::kByte},
    {DType::kI8, at::kChar},
    {DType::kI16, at::kShort},
    {DType::kU16, at::kUInt16},
    {DType::kF16, at::kHalf},
    {DType::kBF16, at::kBFloat16},
    {DType::kI32, at::kInt},
    {DType::kU32, at::kUInt32},
    {DType::kF32, at::kFloat},
    {DType::kF64, at::kDouble},
    {DType::kI64, at::kLong},
    {DType::kU64, at::kUInt64},
}};

std::string ShapeText(at::IntArrayRef shape) { return StrCat(shape); }

}  // namespace

at::ScalarType ToTorch(DType dtype) {
  for (const auto& [ours, theirs] : kTypes) {
    if (ours == dtype) return theirs;
  }
  throw Error(StrCat("dtype ", Name(dtype), " has no torch counterpart"));
}

DType FromTorch(at::ScalarType type) {
  for (const auto& [ours, theirs] : kTypes) {
    if (theirs == type) return ours;
  }
  throw Error(StrCat("torch type ", at::toString(type), " cannot be stored in safetensors"));
}

TensorView ViewOf(std::string name, const at::Tensor& tensor) {
  if (!tensor.is_contiguous() || !tensor.device().is_cpu()) {
    throw Error(StrCat("tensor ", name, " must be contiguous and on the CPU to be stored or sent"));
  }
  TensorView view;
  view.name = std::move(name);
  view.dtype = FromTorch(tensor.scalar_type());
  view.shape.assign(tensor.sizes().begin(), tensor.sizes().end());
  view.bytes = {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
  return view;
}

at::Tensor CopyToTensor(const TensorView& view) {
  at::Tensor tensor = at::empty(view.shape, at::TensorOptions(ToTorch(view.dtype)));
  if (!view.bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
  return tensor;
}

void SaveTensors(const std::filesystem::path& path, const NamedTensors& tensors, Metadata metadata) {
  std::vector<at::Tensor> held;
  std::vector<TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    held.push_back(tensor.detach().to(at::kCPU).contiguous());
    views.push_back(ViewOf(name, held.back()));
  }
  WriteSafetensors(path, views, std::move(metadata));
}

void LoadTensors(const SafetensorsFile& file, const NamedTensors& tensors) {
  c10::NoGradGuard no_grad;
  std::string problems;
  std::set<std::string_view> wanted;
  for (const auto& [name, tensor] : tensors) {
    wanted.insert(name);
    const TensorView* view = file.Find(name);
    if (view == nullptr) {
      problems += StrCat("\n  missing: ", name);
    } else if (at::IntArrayRef(view->shape) != tensor.sizes()) {
      problems +=
          StrCat("\n  shape of ", name, ": file ", ShapeText(view->shape), ", model ", ShapeText(tensor.sizes()));
    }
  }
  for (const TensorView& view : file.tensors()) {
    if (!wanted.contains(view.name)) problems += StrCat("\n  unexpected: ", view.name);
  }
  if (!problems.empty()) {
    throw Error("the file does not fit the model:" + problems, file.path().string(),
                "check that config.json beside the file belongs to it");
  }
  for (const auto& [name, tensor] : tensors) tensor.copy_(CopyToTensor(file.At(name)));
}

}  // namespace sgmd
