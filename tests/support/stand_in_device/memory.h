// Memory of the stand-in device: the host's, under addresses at which the host cannot read it.
#pragma once

#include <ATen/core/Tensor.h>

namespace sgmd::stand_in {

/// How many devices there are: SGMD_STAND_IN_DEVICES, or 2.
c10::DeviceIndex DeviceCount();

/// Of this thread, as with CUDA.
c10::DeviceIndex CurrentDevice();
void SetCurrentDevice(c10::DeviceIndex device);

/// Registers the allocator for CUDA memory. New memory holds no numbers: every bit is set.
void RegisterAllocator();

/// Memory that the device could write while the host goes on.
c10::Allocator* PinnedAllocator();
bool IsPinned(const void* data);

/// The bytes of `tensor` as a tensor of the CPU, which keeps it alive; for its device's current stream (Touch). One
/// that is on the CPU already, as it is.
at::Tensor OnHost(const at::Tensor& tensor);

/// A new tensor of the device.
at::Tensor Empty(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType type, c10::Device device);
at::Tensor EmptyContiguous(at::IntArrayRef size, at::ScalarType type, c10::Device device,
                           std::optional<at::MemoryFormat> format);
/// With the values and strides of `host`.
at::Tensor Upload(const at::Tensor& host, c10::Device device);

/// Makes `tensor` contiguous of `size`, with more memory where it needs that.
void Resize(const at::Tensor& tensor, at::IntArrayRef size);

/// The bytes that a tensor covers: less than its elements where it is expanded.
std::int64_t BytesOf(const at::Tensor& tensor);

}  // namespace sgmd::stand_in
