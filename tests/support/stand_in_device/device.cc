// A stand-in for the CUDA device on a machine without one: a library that brings what LibTorch's own CUDA library
// brings, with memory that the CPU cannot read through a tensor's pointer and the CPU's kernels behind every operator.
// Programs take it by SGMD_CUDA_LIBRARY (pipeline/device/open_device.h); `--device cuda` then works, and what would
// fail on a GPU fails here: an operator given tensors of two devices, a device's address read by the CPU, memory taken
// for zeroed, an operator that is not deterministic where determinism is asked for, a stream that uses what another
// has made without waiting for it (streams.h). It shows neither speed, nor other races, nor dtypes that a CUDA kernel
// lacks.
//
//   SGMD_STAND_IN_DEVICES  how many devices there are (2)
//   SGMD_STAND_IN_BYTES    memory of all of them together (no limit): more is an out-of-memory error
//   SGMD_STAND_IN_JITTER   1: the backward pass of attention rounds differently every time, as on a GPU, unless
//                          deterministic algorithms are asked for
//   SGMD_STAND_IN_WRONG_HEAD
//                          the width of heads for which cuDNN's attention is wrong (none)
//   SGMD_STAND_IN_REPORT   a file to which counts are appended at exit (meter.h)
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "tests/support/stand_in_device/memory.h"
#include "tests/support/stand_in_device/meter.h"
#include "tests/support/stand_in_device/streams.h"

namespace sgmd::stand_in {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

// All is done at once (streams.h).
struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device getDevice() const override { return {DeviceType::CUDA, CurrentDevice()}; }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < DeviceCount(), "CUDA error: invalid device ordinal ", device.index());
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.index() >= 0) SetCurrentDevice(device.index());
  }
  Device exchangeDevice(Device device) const override {
    const Device before = getDevice();
    setDevice(device);
    return before;
  }
  DeviceIndex deviceCount() const noexcept override { return DeviceCount(); }

  Stream getStream(Device device) const override { return CurrentStream(device); }
  Stream getDefaultStream(Device device) const override { return Stream(Stream::DEFAULT, device); }
  Stream getNewStream(Device device, int) const override { return NewStream(device); }
  Stream exchangeStream(Stream stream) const override { return ExchangeStream(stream); }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeDevice(DeviceIndex) const override {}
  void record(void** event, const Stream& stream, DeviceIndex, c10::EventFlag) const override {
    RecordEvent(event, stream);
  }
  void block(void* event, const Stream& stream) const override { WaitForEvent(event, stream); }
  void destroyEvent(void* event, DeviceIndex) const noexcept override { DestroyEvent(event); }
  bool queryEvent(void*) const override { return true; }
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return DeviceCount() > 0; }
  bool hasCUDA() const override { return DeviceCount() > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return DeviceCount(); }
  int getNumGPUs() const override { return DeviceCount(); }
  DeviceIndex current_device() const override { return CurrentDevice(); }
  DeviceIndex getCurrentDevice() const override { return CurrentDevice(); }
  void setCurrentDevice(DeviceIndex device) const override { Guard().setDevice({DeviceType::CUDA, device}); }
  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    return Guard().exchangeDevice({DeviceType::CUDA, device}).index();
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override { return exchangeDevice(device); }
  Device getDeviceFromPtr(void*) const override { return {DeviceType::CUDA, CurrentDevice()}; }
  void deviceSynchronize(DeviceIndex) const override {}
  at::Allocator* getPinnedMemoryAllocator() const override { return PinnedAllocator(); }
  bool isPinnedPtr(const void* data) const override { return IsPinned(data); }
};

const bool registered = [] {
  Meter::Get();  // before the allocator, and so destroyed after what is static and holds tensors
  RegisterAllocator();
  return true;
}();
const c10::impl::DeviceGuardImplRegistrar guard_registered(DeviceType::CUDA, new Guard);

}  // namespace
}  // namespace sgmd::stand_in

namespace at {
using StandInHooks = ::sgmd::stand_in::Hooks;
C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", StandInHooks)
}  // namespace at
