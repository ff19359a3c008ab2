// Where a program computes: opening a device, with every setting that decides its speed and its bits.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace sgmd {

struct DeviceSettings {
  /// Whether the same program gives the same bits twice on one model of GPU with one version of the libraries, for
  /// which operators that have a faster and an exact form take the exact one. The CPU is always exact.
  bool deterministic = false;
};

/// The device that `text` names ("cpu", "cuda", "cuda:N"), made the current one of the calling thread.
///
/// Programs are linked with LibTorch's CPU part alone. The first device that is a GPU loads its CUDA part, or the
/// library that the environment names in SGMD_CUDA_LIBRARY, which brings the device in its place. Settings:
///  - convolutions and matrix products of float32 are computed in float32 (no TF32: its 10 bits are 1e-3 off);
///  - memory comes in segments that grow (expandable_segments), unless PYTORCH_ALLOC_CONF or PYTORCH_CUDA_ALLOC_CONF
///    says otherwise, so that what fits by size is not lost to fragments;
///  - deterministic: LibTorch's deterministic algorithms, which refuse an operator that has none; memory is not filled
///    for that.
///
/// Call it before anything else asks LibTorch for CUDA: LibTorch asks once, and keeps the answer. Throws Error when
/// `text` names no device, the libraries are not installed, there is no driver, or no such GPU.
c10::Device OpenDevice(const std::string& text, const DeviceSettings& settings = {});

}  // namespace sgmd
