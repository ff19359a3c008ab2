// The library of what needs CUDA's own headers and compiler, libsgmd_cuda.so. Programs load it with LibTorch's CUDA
// libraries. It registers the row operators (pipeline/kernels) for CUDA, where there was an nvcc when it was built, and
// has what this header declares. Where the headers were missing there is none: ATen's operations take the place of the
// row kernels, and main memory that of NCCL.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace sgmd {

inline constexpr const char* kCudaPart = "libsgmd_cuda.so";
inline constexpr const char* kConnectNcclBackend = "SgmdConnectNcclBackend";

/// Makes c10d's backend over NCCL for the current GPU of this rank, with `timeout` for one collective. Throws what c10d
/// throws.
using ConnectNcclBackend = void(const c10::intrusive_ptr<c10d::Store>& store, int rank, int ranks,
                                std::chrono::milliseconds timeout, c10::intrusive_ptr<c10d::Backend>* backend);

}  // namespace sgmd

extern "C" sgmd::ConnectNcclBackend SgmdConnectNcclBackend;
