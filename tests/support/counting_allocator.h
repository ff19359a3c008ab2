// Counts the bytes that tensors hold on the CPU.
#pragma once

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>

namespace sgmd {

/// While it lives, CPU tensors are allocated through it. The tensors may outlive it: what was counted is static. One at a time.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() : inner_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, kPriority); }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, kPriority); }

  static std::int64_t live() { return live_; }
  static std::int64_t peak() { return peak_; }
  static void ResetPeak() { peak_ = live_.load(); }

  c10::DataPtr allocate(std::size_t bytes) override {
    auto* held = new Held{inner_->allocate(bytes), static_cast<std::int64_t>(bytes)};
    live_ += held->bytes;
    peak_ = std::max<std::int64_t>(peak_, live_);
    return {held->data.get(), held, &Free, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { inner_->copy_data(to, from, bytes); }

 private:
  struct Held {
    c10::DataPtr data;
    std::int64_t bytes;
  };
  static void Free(void* context) {
    auto* held = static_cast<Held*>(context);
    live_ -= held->bytes;
    delete held;
  }

  static constexpr std::uint8_t kPriority = 10;
  static inline std::atomic<std::int64_t> live_{0}, peak_{0};
  c10::Allocator* inner_;
};

}  // namespace sgmd
