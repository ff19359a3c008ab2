// Groups of ranks that are processes.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>

#include "pipeline/parallel/collectives.h"

namespace sgmd {

/// Where the ranks of a group find each other. Gloo listens on the loopback interface alone; NCCL chooses its own ways
/// between GPUs, on one host none that others can reach.
struct Rendezvous {
  std::filesystem::path file;  // on a disk that all ranks see; a new one for every attempt, in a folder that exists
  int rank = 0, ranks = 1;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  // of one collective
};

/// Over Gloo, for tensors on the CPU. Returns when all ranks are there. Throws Error when they are not within the
/// timeout.
std::unique_ptr<Collectives> ConnectGloo(const Rendezvous& where);

/// Over NCCL, for tensors on the current GPU of each rank; no two ranks may have the same one. Only where the part of
/// the build for CUDA is there (pipeline/cuda), of which HasNccl tells; else it throws Error. Outputs are there for
/// what runs on the current stream after Wait().
std::unique_ptr<Collectives> ConnectNccl(const Rendezvous& where);
bool HasNccl();

/// `host`, a group on the CPU, for tensors on any device: they travel through main memory. Slower than NCCL, which
/// refuses two ranks on one GPU.
std::unique_ptr<Collectives> ThroughHost(std::unique_ptr<Collectives> host);

}  // namespace sgmd
