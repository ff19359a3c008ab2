// Ranks that share the tokens of a sample (sequence parallelism): each has consecutive ones, and in attention, which
// needs all tokens, a part of the heads.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace sgmd {

/// One rank's view of the share. All ranks make the same calls in the same order. Differentiable: the gradient of each
/// call is the opposite one.
class TokenShare {
 public:
  TokenShare(int rank, int ranks) : rank_(rank), ranks_(ranks) {}
  virtual ~TokenShare() = default;

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  /// First and number of the tokens of `rank`, of `all`: equal numbers, the first ranks one more where they do not
  /// divide.
  std::pair<std::int64_t, std::int64_t> RangeOf(int rank, std::int64_t all) const {
    const std::int64_t each = all / ranks_, more = all % ranks_;
    return {rank * each + std::min<std::int64_t>(rank, more), each + (rank < more ? 1 : 0)};
  }

  /// This rank's of the tokens that every rank has: [B, all, D] -> [B, own, D]. The gradient is whole on every rank.
  virtual at::Tensor Own(const at::Tensor& tokens) const = 0;
  /// All tokens on every rank: [B, own, D] -> [B, all, D]. The gradient given is the same on every rank.
  virtual at::Tensor All(const at::Tensor& tokens, std::int64_t all) const = 0;
  /// [B, own, H, d] -> [B, all, H / ranks, d]; H is a multiple of ranks.
  virtual at::Tensor ByHeads(const at::Tensor& x, std::int64_t all) const = 0;
  /// [B, all, H / ranks, d] -> [B, own, H, d].
  virtual at::Tensor ByTokens(const at::Tensor& x) const = 0;

 private:
  int rank_, ranks_;
};

}  // namespace sgmd
