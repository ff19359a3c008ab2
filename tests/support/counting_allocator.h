// Counts the bytes that tensors hold on the CPU.
#pragma once

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace sgmd {

/// While it lives, CPU tensors are allocated through it. The tensors may outlive it: what was counted is static. One at
/// a time.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() {
    inner_ = c10::GetCPUAllocator();
    c10::SetCPUAllocator(this, kPriority);
  }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, kPriority); }

  static std::int64_t live() { return live_; }
  static std::int64_t peak() { return peak_; }
  static void ResetPeak() { peak_ = live_.load(); }

  // Convolutions ask for memory whose context is its address, which therefore stands for what is held.
  c10::DataPtr allocate(std::size_t bytes) override {
    c10::DataPtr data = inner_->allocate(bytes);
    void* const address = data.get();
    if (address == nullptr) return data;
    live_ += static_cast<std::int64_t>(bytes);
    peak_ = std::max<std::int64_t>(peak_, live_);
    const std::lock_guard lock(mutex_);
    held_[address] = {std::move(data), static_cast<std::int64_t>(bytes)};
    return {address, address, &Free, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { inner_->copy_data(to, from, bytes); }

 private:
  struct Held {
    c10::DataPtr data;
    std::int64_t bytes;
  };
  static void Free(void* address) {
    const std::lock_guard lock(mutex_);
    const auto held = held_.extract(address);
    if (held.empty()) return inner_->raw_deleter()(address);  // older than this allocator
    live_ -= held.mapped().bytes;
  }

  static constexpr std::uint8_t kPriority = 10;
  static inline std::atomic<std::int64_t> live_{0}, peak_{0};
  static inline std::mutex mutex_;
  static inline std::unordered_map<void*, Held> held_;
  static inline c10::Allocator* inner_ = nullptr;
};

}  // namespace sgmd
