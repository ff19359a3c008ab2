#define USE_DISTRIBUTED
#define USE_C10D_NCCL

#include "pipeline/cuda/cuda_part.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

extern "C" void SgmdConnectNcclBackend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int ranks,
                                       std::chrono::milliseconds timeout, c10::intrusive_ptr<c10d::Backend>* backend) {
  const auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/false);
  options->timeout = timeout;
  *backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, ranks, options);
}
