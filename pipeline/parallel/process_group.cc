// c10d's headers declare each backend where its macro says so.
#define USE_DISTRIBUTED
#define USE_RPC
#define USE_C10D_GLOO

#include "pipeline/parallel/process_group.h"

#include <ATen/ATen.h>
#include <c10/util/env.h>
#include <dlfcn.h>

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <cstdlib>

#include "common/config/device.h"
#include "common/error/text.h"
#include "common/metrics/work_count.h"
#include "pipeline/cuda/cuda_part.h"

namespace sgmd {
namespace {

class ProcessGroup : public Collectives {
 public:
  ProcessGroup(int rank, int ranks, c10::intrusive_ptr<c10d::Backend> backend)
      : Collectives(rank, ranks), backend_(std::move(backend)) {}

 private:
  // Runs `begin`, which returns c10d's work, or waits for it.
  template <typename Call>
  auto Guarded(const char* what, Call call) const {
    try {
      return call();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw GroupLost(StrCat("rank ", rank(), " of ", ranks(), ": ", what, " failed: ", FirstLine(error.what())), {},
                      "another rank of the group has died or stands still; its log says more");
    }
  }
  template <typename Begin>
  Pending Start(const char* what, Begin begin) {
    const c10::intrusive_ptr<c10d::Work> work = Guarded(what, begin);
    return Pending([this, what, work] {
      const Waiting waiting;  // of ranks that stand still, the one that is at work is the cause
      Guarded(what, [&] { return work->wait(); });
    });
  }

  Pending StartAllGather(const at::Tensor& out, const at::Tensor& in) override {
    return Start("all-gather", [&] {
      at::Tensor flat = out.view({-1}), part = in.view({-1});
      return backend_->_allgather_base(flat, part);
    });
  }
  Pending StartAllToAll(const at::Tensor& out, const at::Tensor& in, const Rows& out_rows,
                        const Rows& in_rows) override {
    return Start("all-to-all", [&] {
      at::Tensor to = out, from = in;
      Rows to_rows = out_rows, from_rows = in_rows;
      return backend_->alltoall_base(to, from, to_rows, from_rows);
    });
  }
  Pending StartBroadcast(const at::Tensor& tensor, int root) override {
    return Start("broadcast", [&] {
      std::vector<at::Tensor> tensors{tensor};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return backend_->broadcast(tensors, options);
    });
  }
  void WaitForAll() override {
    Start("barrier", [&] { return backend_->barrier(); }).Wait();
  }

  c10::intrusive_ptr<c10d::Backend> backend_;
};

// c10d notes each collective in one table of the process, to which its groups add without a lock: two that begin at
// once, such as those of ranks that are threads, can end in a crash. Nobody reads the table.
void SwitchOffFlightRecorder() {
  static const bool off = [] {
    c10::utils::set_env("TORCH_FR_BUFFER_SIZE", "0");
    return true;
  }();
  (void)off;
}

// `connect` makes c10d's backend from a store.
template <typename Connect>
std::unique_ptr<Collectives> Connected(const Rendezvous& where, Connect connect) {
  SwitchOffFlightRecorder();
  try {
    auto store = c10::make_intrusive<c10d::FileStore>(where.file.string(), where.ranks);
    store->setTimeout(where.timeout);
    return std::make_unique<ProcessGroup>(where.rank, where.ranks, connect(store));
  } catch (const std::exception& error) {
    throw Error(StrCat("rank ", where.rank, " of ", where.ranks, " did not meet the others: ", FirstLine(error.what())),
                where.file.string());
  }
}

class HostStaged : public Collectives {
 public:
  explicit HostStaged(std::unique_ptr<Collectives> host)
      : Collectives(host->rank(), host->ranks()), host_(std::move(host)) {}

 private:
  // Waits, then copies what came to `out`.
  static Pending Landing(Pending pending, const at::Tensor& out, const at::Tensor& staged) {
    return Pending([pending, out, staged]() mutable {
      pending.Wait();
      out.copy_(staged);
    });
  }
  static at::Tensor OnHost(const at::Tensor& like) { return at::empty_like(like, at::kCPU); }

  Pending StartAllGather(const at::Tensor& out, const at::Tensor& in) override {
    const at::Tensor staged = OnHost(out);
    return Landing(host_->AllGather(staged, in.to(at::kCPU)), out, staged);
  }
  Pending StartAllToAll(const at::Tensor& out, const at::Tensor& in, const Rows& out_rows,
                        const Rows& in_rows) override {
    const at::Tensor staged = OnHost(out);
    return Landing(host_->AllToAll(staged, in.to(at::kCPU), out_rows, in_rows), out, staged);
  }
  Pending StartBroadcast(const at::Tensor& tensor, int root) override {
    const at::Tensor staged = tensor.to(at::kCPU);
    return Landing(host_->Broadcast(staged, root), tensor, staged);
  }
  void WaitForAll() override { host_->Barrier(); }

  std::unique_ptr<Collectives> host_;
};

// Null where the part for CUDA was not built, or another library brings the GPUs.
ConnectNcclBackend* NcclConnector() {
  static ConnectNcclBackend* const connector = []() -> ConnectNcclBackend* {
    if (std::getenv(kCudaLibraryVariable) != nullptr) return nullptr;
    void* part = ::dlopen(kCudaPart, RTLD_NOW | RTLD_LOCAL);
    return part == nullptr ? nullptr : reinterpret_cast<ConnectNcclBackend*>(::dlsym(part, kConnectNcclBackend));
  }();
  return connector;
}

}  // namespace

std::unique_ptr<Collectives> ConnectGloo(const Rendezvous& where) {
  return Connected(where, [&](const c10::intrusive_ptr<c10d::Store>& store) {
    const auto options = c10d::ProcessGroupGloo::Options::create(where.timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    options->threads = 1;  // collectives run in the order of the calls
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, where.rank, where.ranks, options);
  });
}

bool HasNccl() { return NcclConnector() != nullptr; }

std::unique_ptr<Collectives> ConnectNccl(const Rendezvous& where) {
  if (!HasNccl()) throw Error("there is no NCCL in this build", {}, "SGMD_CUDA=1 launch/setup builds it in");
  return Connected(where, [&](const c10::intrusive_ptr<c10d::Store>& store) {
    c10::intrusive_ptr<c10d::Backend> backend;
    NcclConnector()(store, where.rank, where.ranks, where.timeout, &backend);
    return backend;
  });
}

std::unique_ptr<Collectives> ThroughHost(std::unique_ptr<Collectives> host) {
  return std::make_unique<HostStaged>(std::move(host));
}

}  // namespace sgmd
