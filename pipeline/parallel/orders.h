// How rank 0 of a group, which alone speaks with the rest of the run, has the others do what it does.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/parallel/collectives.h"

namespace sgmd {

/// What all ranks do next. Which numbers there are is up to those who give and take it.
struct Order {
  static constexpr std::size_t kNumbers = 4;

  std::int64_t what = 0;
  std::vector<std::int64_t> numbers;   // at most kNumbers; comes as that many, filled up with zeros
  std::vector<std::int32_t> of_ranks;  // one for each rank, or empty; comes as one for each
  std::string text;
};

/// Orders and the tensors that belong to them, over a group that can reach tensors on the CPU. In a group of one
/// nothing is sent and nothing copied. All throw Error as Collectives do.
class Orders {
 public:
  /// `group` outlives it.
  explicit Orders(Collectives& group) : group_(group) {}

  int rank() const { return group_.rank(); }
  int ranks() const { return group_.ranks(); }

  /// By rank 0.
  void Give(const Order& order);
  /// By the others: waits for the next one.
  Order Take();

  /// By all ranks: what rank 0 has for this one. `of_ranks`: at rank 0 one tensor for each, all of one shape and dtype;
  /// else not used. `like`: a tensor of that shape and dtype.
  at::Tensor Scatter(const std::vector<at::Tensor>& of_ranks, const at::TensorOptions& like,
                     at::IntArrayRef shape) const;
  /// By all ranks, with tensors of one shape and dtype: at rank 0 all of them in order of rank, on the CPU (its own as
  /// it is); at the others empty.
  std::vector<at::Tensor> Gather(const at::Tensor& own) const;
  /// The same of texts of any length.
  std::vector<std::string> Gather(const std::string& own) const;
  /// By all ranks: `tensor` of rank 0 in that of every rank.
  void Broadcast(const at::Tensor& tensor) const;

 private:
  Collectives& group_;
};

}  // namespace sgmd
