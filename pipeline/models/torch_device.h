// Devices by name, for LibTorch.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace sgmd {

/// The device that `text` names ("cpu", "cuda", "cuda:N"). Throws Error when it names none, or a GPU and this build or
/// machine has none.
at::Device TorchDevice(const std::string& text);

}  // namespace sgmd
