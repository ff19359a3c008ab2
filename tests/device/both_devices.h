// What is computed on the CPU and on a GPU of the stand-in (tests/support/stand_in_device), compared.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "common/error/error.h"
#include "pipeline/device/open_device.h"

namespace sgmd {

/// The last GPU: where there are two, not the one that a new process has as its current one.
inline at::Device LastGpu() {
  OpenDevice("cuda", {.deterministic = true});
  return OpenDevice(StrCat("cuda:", at::detail::getCUDAHooks().deviceCount() - 1), {.deterministic = true});
}

/// Runs `compute` on both. Tensor by tensor, no difference is larger than `bound` times the largest value.
inline void ExpectTheSameOnBothDevices(const std::function<std::vector<at::Tensor>(at::Device)>& compute,
                                       double bound) {
  at::set_num_threads(1);
  const std::vector<at::Tensor> there = compute(LastGpu());
  const std::vector<at::Tensor> here = compute(at::kCPU);
  ASSERT_EQ(there.size(), here.size());
  ASSERT_FALSE(here.empty());
  for (std::size_t i = 0; i < here.size(); ++i) {
    const at::Tensor x = there[i].detach().to(at::kCPU, at::kDouble), y = here[i].detach().to(at::kDouble);
    ASSERT_EQ(x.sizes(), y.sizes());
    const double difference = (x - y).abs().max().item<double>(), largest = y.abs().max().item<double>();
    EXPECT_LE(difference, bound * largest) << "tensor " << i << " of " << here.size();
  }
}

}  // namespace sgmd
