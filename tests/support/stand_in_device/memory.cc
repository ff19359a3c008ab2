#include "tests/support/stand_in_device/memory.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "tests/support/stand_in_device/meter.h"
#include "tests/support/stand_in_device/streams.h"

namespace sgmd::stand_in {
namespace {

thread_local c10::DeviceIndex current_device = 0;

// A device's address is the host's with a bit that no address of a process has: reading it faults.
constexpr std::uintptr_t kDeviceBit = std::uintptr_t{1} << 55;
void* DeviceAddress(void* host) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(host) | kDeviceBit); }
void* HostAddress(const void* device) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(device) & ~kDeviceBit);
}

constexpr std::size_t kGranularity = 512;  // of LibTorch's caching allocator

struct Block {
  void* host;
  std::size_t bytes;
  c10::DeviceIndex device;
};

constexpr std::size_t kAllKinds = 0;  // of the kinds that statistics are kept by, the one for all together

class DeviceMemory final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(std::size_t n) override {
    const c10::Device device(c10::DeviceType::CUDA, current_device);
    if (n == 0) return {nullptr, device};
    const std::size_t bytes = (n + kGranularity - 1) / kGranularity * kGranularity;
    Meter::Get().Allocate(static_cast<std::int64_t>(bytes));
    {
      const std::lock_guard lock(mutex_);
      stats_[current_device].allocated_bytes[kAllKinds].increase(bytes);
      stats_[current_device].reserved_bytes[kAllKinds].increase(bytes);
    }
    void* host = std::aligned_alloc(kGranularity, bytes);
    std::memset(host, 0xFF, bytes);  // no number in any floating type
    return {DeviceAddress(host), new Block{host, bytes, current_device}, &Free, device};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(HostAddress(to), HostAddress(from), count);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    const std::lock_guard lock(mutex_);
    return stats_[device];
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex device) override {
    const std::lock_guard lock(mutex_);
    stats_[device].allocated_bytes[kAllKinds].reset_peak();
    stats_[device].reserved_bytes[kAllKinds].reset_peak();
  }

 private:
  static void Free(void* context);

  std::mutex mutex_;
  std::map<c10::DeviceIndex, c10::CachingDeviceAllocator::DeviceStats> stats_;
};

DeviceMemory& Memory() {
  static auto* memory = new DeviceMemory;  // tensors may outlive what is static
  return *memory;
}

void DeviceMemory::Free(void* context) {
  const std::unique_ptr<Block> block(static_cast<Block*>(context));
  Forget(DeviceAddress(block->host));
  std::free(block->host);
  Meter::Get().Free(static_cast<std::int64_t>(block->bytes));
  const std::lock_guard lock(Memory().mutex_);
  Memory().stats_[block->device].allocated_bytes[kAllKinds].decrease(block->bytes);
  Memory().stats_[block->device].reserved_bytes[kAllKinds].decrease(block->bytes);
}

class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t n) override {
    void* data = std::aligned_alloc(64, (std::max<std::size_t>(n, 1) + 63) / 64 * 64);
    const std::lock_guard lock(mutex_);
    blocks_.insert(data);
    return {data, data, &Free, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }

  bool Has(const void* data) {
    const std::lock_guard lock(mutex_);
    return blocks_.contains(const_cast<void*>(data));
  }

 private:
  static void Free(void* data);

  std::mutex mutex_;
  std::set<void*> blocks_;
};

PinnedMemory& Pinned() {
  static auto* memory = new PinnedMemory;
  return *memory;
}

void PinnedMemory::Free(void* data) {
  {
    const std::lock_guard lock(Pinned().mutex_);
    Pinned().blocks_.erase(data);
  }
  std::free(data);
}

}  // namespace

c10::DeviceIndex DeviceCount() {
  static const auto count = static_cast<c10::DeviceIndex>(FromEnvironment("SGMD_STAND_IN_DEVICES", 2));
  return count;
}

c10::DeviceIndex CurrentDevice() { return current_device; }
void SetCurrentDevice(c10::DeviceIndex device) { current_device = device; }

void RegisterAllocator() { c10::SetAllocator(c10::DeviceType::CUDA, &Memory()); }

c10::Allocator* PinnedAllocator() { return &Pinned(); }
bool IsPinned(const void* data) { return Pinned().Has(data); }

at::Tensor OnHost(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  const auto options = tensor.options().device(at::kCPU);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  Touch(tensor.storage().data(), tensor.device());
  at::Tensor host = at::from_blob(
      HostAddress(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), [tensor](void*) {}, options);
  if (tensor.is_conj()) host._set_conj(true);
  if (tensor.is_neg()) host._set_neg(true);
  return host;
}

at::Tensor Empty(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType type, c10::Device device) {
  const c10::DeviceGuard guard(device.has_index() ? device : c10::Device(c10::DeviceType::CUDA, current_device));
  return at::Tensor(at::detail::empty_strided_generic(size, stride, c10::GetAllocator(c10::DeviceType::CUDA),
                                                      c10::DispatchKeySet(c10::DispatchKey::CUDA), type));
}

at::Tensor EmptyContiguous(at::IntArrayRef size, at::ScalarType type, c10::Device device,
                           std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device.has_index() ? device : c10::Device(c10::DeviceType::CUDA, current_device));
  return at::Tensor(at::detail::empty_generic(size, c10::GetAllocator(c10::DeviceType::CUDA),
                                              c10::DispatchKeySet(c10::DispatchKey::CUDA), type, format));
}

at::Tensor Upload(const at::Tensor& host, c10::Device device) {
  if (!host.defined()) return host;
  const at::Tensor tensor = Empty(host.sizes(), host.strides(), host.scalar_type(), device);
  if (host.numel() > 0) OnHost(tensor).copy_(host);
  return tensor;
}

void Resize(const at::Tensor& tensor, at::IntArrayRef size) {
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  const std::size_t bytes =
      at::detail::computeStorageNbytesContiguous(size, tensor.itemsize(), tensor.storage_offset());
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  if (bytes <= storage->nbytes()) return;
  const c10::DeviceGuard guard(tensor.device());
  c10::DataPtr data = c10::GetAllocator(c10::DeviceType::CUDA)->allocate(bytes);
  if (storage->nbytes() > 0) std::memcpy(HostAddress(data.get()), HostAddress(storage->data()), storage->nbytes());
  storage->set_data_ptr(std::move(data));
  storage->set_nbytes(bytes);
}

std::int64_t BytesOf(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) return 0;
  std::int64_t elements = 1;
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) elements *= tensor.stride(axis) == 0 ? 1 : tensor.size(axis);
  return elements * static_cast<std::int64_t>(tensor.itemsize());
}

}  // namespace sgmd::stand_in
