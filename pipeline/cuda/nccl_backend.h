// The library of what needs CUDA's own headers, libsgmd_cuda.so. Programs load it when a group of ranks is on GPUs, and
// find in it what this header declares; where those headers are missing it is not built, and nothing else changes.
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
