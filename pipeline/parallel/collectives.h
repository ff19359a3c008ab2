// What the ranks of a group send each other. Collectives move, they never add: every sum is local and in a stated
// order, so that a result has the same bits on any number of ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "common/error/error.h"

namespace sgmd {

/// Another rank of the group has died or stands still: this one cannot go on, and is not the cause.
class GroupLost : public Error {
 public:
  using Error::Error;
};

/// One rank's end of a group. All ranks make the same calls in the same order, with shapes that fit together; what a
/// rank can see of that by itself is checked before anything is sent. Tensors are contiguous, and on a device that the
/// form of the group (ConnectGloo, ThroughHost) can reach.
class Collectives {
 public:
  /// A collective that was begun. Its tensors are kept alive, and are not to be used before Wait().
  class [[nodiscard]] Pending {
   public:
    explicit Pending(std::function<void()> wait) : wait_(std::move(wait)) {}
    /// Until the outputs are there; on a GPU its current stream waits, not the caller. Throws GroupLost when another
    /// rank died, or did not come within the group's timeout.
    void Wait() { wait_(); }

   private:
    std::function<void()> wait_;
  };
  /// Rows (first extent) for each rank.
  using Rows = std::vector<std::int64_t>;

  Collectives(int rank, int ranks) : rank_(rank), ranks_(ranks) {}
  virtual ~Collectives() = default;
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  int rank() const { return rank_; }    // from 0
  int ranks() const { return ranks_; }  // at least 1
  /// Bytes that the other ranks have sent to this one, in the calls so far.
  std::int64_t received() const { return received_; }

  /// out [ranks * in.numel()], in any shape: `in` of rank 0, of rank 1, ... Throws Error on other sizes or dtypes.
  Pending AllGather(const at::Tensor& out, const at::Tensor& in);
  /// Rows of `in` go to the ranks in turn, in_rows[q] to rank q; rows of `out` come from them, out_rows[q] from rank q.
  /// Throws Error unless rows add up to the first extents, and rows have the same shape and dtype.
  Pending AllToAll(const at::Tensor& out, const at::Tensor& in, const Rows& out_rows, const Rows& in_rows);
  /// The same with as many rows to and from each rank.
  Pending AllToAll(const at::Tensor& out, const at::Tensor& in);
  /// `tensor` of rank `root` in that of every rank.
  Pending Broadcast(const at::Tensor& tensor, int root);
  /// Until every rank is here. Throws GroupLost as Pending::Wait does.
  void Barrier();

 private:
  virtual Pending StartAllGather(const at::Tensor& out, const at::Tensor& in) = 0;
  virtual Pending StartAllToAll(const at::Tensor& out, const at::Tensor& in, const Rows& out_rows,
                                const Rows& in_rows) = 0;
  virtual Pending StartBroadcast(const at::Tensor& tensor, int root) = 0;
  virtual void WaitForAll() = 0;

  int rank_, ranks_;
  std::int64_t received_ = 0;
};

/// A group of one: copies.
std::unique_ptr<Collectives> Solo();

/// A role's group: `device` for what it computes with, `host` for tensors on the CPU; on the CPU both are one.
/// Consecutive ranks, as many as `sequence` has, share the tokens of a micro-batch; null where each has one of its own.
struct RankGroup {
  std::shared_ptr<Collectives> device, host, sequence;

  int rank() const { return device->rank(); }
  int ranks() const { return device->ranks(); }
  int sequence_ranks() const { return sequence ? sequence->ranks() : 1; }
  /// Collectives::received of all that it has.
  std::int64_t received() const;
};

/// A group of one.
RankGroup Alone();

}  // namespace sgmd
