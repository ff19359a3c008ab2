#include "pipeline/models/torch_device.h"

#include <ATen/Context.h>

#include "common/config/device.h"
#include "common/error/error.h"

namespace sgmd {

at::Device TorchDevice(const std::string& text) {
  const auto device = ParseDevice(text);
  if (!device) throw Error(StrCat("\"", text, "\" is not a device"), {}, kDeviceForms);
  if (device->kind == Device::Kind::kCpu) return at::kCPU;
  if (!at::hasCUDA()) {
    throw Error(StrCat("device ", text, " is not available"), {},
                "set up with SGMD_CUDA=1 on a machine with a GPU, or use cpu");
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(device->ordinal)};
}

}  // namespace sgmd
