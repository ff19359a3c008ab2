// How rank 0 of a group, which alone speaks with the rest of the run, has the others do what it does.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/parallel/collectives.h"

namespace sgmd {

/// What all ranks do next. Which numbers there are is up to those who give and take it.
struct Order {
  static constexpr std::size_t kNumbers = 4;

  std::int64_t what = 0;
  std::vector<std::int64_t> numbers;  // at most kNumbers; comes as that many, filled up with zeros
  std::vector<std::int32_t> round;    // one for each place of a round, or empty; comes as one for each
  std::string text;
};

/// Orders and the tensors that belong to them. The micro-batches that a group has at once are a round; ranks that share
/// tokens have the same one. In a group of one nothing is sent and nothing copied. All throw Error as Collectives do.
class Orders {
 public:
  explicit Orders(const RankGroup& group) : host_(group.host), shared_(group.sequence_ranks()) {}

  int rank() const { return host_->rank(); }
  int ranks() const { return host_->ranks(); }
  /// Micro-batches of a round, and which of them is this rank's.
  int round() const { return ranks() / shared_; }
  int place() const { return rank() / shared_; }

  /// By rank 0.
  void Give(const Order& order);
  /// By the others: waits for the next one.
  Order Take();

  /// By all ranks: what rank 0 has for this one. `round`: at rank 0 one tensor for each place, all of one shape and
  /// dtype; else not used. `like`: a tensor of that shape and dtype.
  at::Tensor Scatter(const std::vector<at::Tensor>& round, const at::TensorOptions& like, at::IntArrayRef shape) const;
  /// By all ranks, with tensors of one shape and dtype: at rank 0 those of a round, on the CPU (its own as it is); at
  /// the others empty.
  std::vector<at::Tensor> Gather(const at::Tensor& own) const;
  /// By all ranks: at rank 0 the texts of all of them; at the others empty.
  std::vector<std::string> GatherTexts(const std::string& own) const;
  /// By all ranks: `tensor` of rank 0 in that of every rank.
  void Broadcast(const at::Tensor& tensor) const;

 private:
  bool first_of_place() const { return rank() % shared_ == 0; }

  std::shared_ptr<Collectives> host_;
  int shared_;  // ranks that have the same micro-batch
};

}  // namespace sgmd
