#include "pipeline/device/open_device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>

#include <cstdlib>

#include "common/config/device.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "common/log/log.h"
#include "pipeline/cuda/cuda_part.h"

namespace sgmd {
namespace {

// Read by the CUDA libraries when they are loaded; what a person has set stays.
void SetEnvironment() {
  if (std::getenv("PYTORCH_CUDA_ALLOC_CONF") == nullptr)
    ::setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True", /*overwrite=*/0);
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);  // without it deterministic products are refused
}

void LoadCuda(const std::string& text) {
  if (c10::impl::hasDeviceGuardImpl(c10::DeviceType::CUDA)) return;
  SetEnvironment();
  const char* named = std::getenv(kCudaLibraryVariable);
  if (::dlopen(named != nullptr ? named : "libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr) {
    if (named == nullptr && ::dlopen(kCudaPart, RTLD_NOW) == nullptr)
      LogWarning("this build has no part for CUDA: ATen's operations take the place of the row kernels (", ::dlerror(),
                 "); SGMD_CUDA=1 launch/setup builds it");
    return;
  }
  const std::string reason = ::dlerror();
  if (named != nullptr) {
    throw Error(StrCat("the library of ", kCudaLibraryVariable, " cannot be loaded: ", reason), text,
                "unset the variable to take LibTorch's own");
  }
  throw Error(StrCat("LibTorch's CUDA libraries cannot be loaded: ", reason), text,
              "SGMD_CUDA=1 launch/setup installs them; or compute on the cpu");
}

void RequireGpu(const std::string& text, int ordinal) {
  const at::CUDAHooksInterface& cuda = at::detail::getCUDAHooks();
  try {
    cuda.init();  // says what is missing: the driver, its version, a GPU
  } catch (const c10::Error& error) {
    throw Error(FirstLine(error.what_without_backtrace()), text, "nvidia-smi shows what the driver sees; or use cpu");
  }
  const int gpus = cuda.deviceCount();
  if (ordinal < gpus) return;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  throw Error(StrCat("there is no such device: this process sees ", gpus, gpus == 1 ? " GPU" : " GPUs",
                     visible == nullptr ? "" : StrCat(", as CUDA_VISIBLE_DEVICES is \"", visible, "\"")),
              text, StrCat("the last one is cuda:", gpus - 1));
}

void Apply(const DeviceSettings& settings) {
  at::Context& context = at::globalContext();
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
  context.setBenchmarkCuDNN(false);
  context.setDeterministicCuDNN(settings.deterministic);
  context.setDeterministicAlgorithms(settings.deterministic, /*warn_only=*/false);
  context.setDeterministicFillUninitializedMemory(false);
}

}  // namespace

c10::Device OpenDevice(const std::string& text, const DeviceSettings& settings) {
  const auto device = ParseDevice(text);
  if (!device) throw Error(StrCat("\"", text, "\" is not a device"), {}, kDeviceForms);
  if (device->kind == Device::Kind::kCpu) return c10::DeviceType::CPU;
  LoadCuda(text);
  RequireGpu(text, device->ordinal);
  Apply(settings);
  const c10::Device opened(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device->ordinal));
  c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA)->setDevice(opened);
  return opened;
}

}  // namespace sgmd
