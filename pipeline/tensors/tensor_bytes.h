// Between torch tensors and the byte views of files and messages.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/storage/safetensors.h"
#include "common/storage/tensor_view.h"

namespace sgmd {

/// Parameters or states in a fixed order, each with the name it has on disk.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

at::ScalarType ToTorch(DType dtype);
/// Throws Error on a torch type that safetensors cannot hold.
DType FromTorch(at::ScalarType type);

/// A view of `tensor`, which must be contiguous and on the CPU (Error otherwise). The tensor must outlive the view.
TensorView ViewOf(std::string name, const at::Tensor& tensor);

/// A new CPU tensor with a copy of the bytes. Copied because matrix kernels give results that depend on alignment, and
/// received or mapped bytes have any.
at::Tensor CopyToTensor(const TensorView& view);

/// Copies `tensors` to the CPU and writes them (see WriteSafetensors).
void SaveTensors(const std::filesystem::path& path, const NamedTensors& tensors, Metadata metadata = {});

/// Copies every tensor of `file` into the one of the same name in `tensors`, keeping the target's dtype and device.
/// Throws Error naming each missing and unexpected tensor and each shape that differs.
void LoadTensors(const SafetensorsFile& file, const NamedTensors& tensors);

}  // namespace sgmd
