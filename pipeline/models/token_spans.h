// The tokens of a block by their time: all of one, or those of a held first frame at time 0 and then the others.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "pipeline/kernels/kernels.h"
#include "pipeline/models/token_share.h"

namespace sgmd {

/// First and number of this rank's tokens, of `all`; all of them without a share.
std::pair<std::int64_t, std::int64_t> OwnTokens(std::int64_t all, const TokenShare* share);

/// Consecutive tokens of one time.
struct TokenSpan {
  std::int64_t first = 0, count = 0;  // of the tokens of this rank
  std::vector<at::Tensor> m;  // 0 shift_sa, 1 scale_sa, 2 gate_sa, 3 shift_ff, 4 scale_ff, 5 gate_ff; each [B, 1, D]

  /// Its rows of [B, N, D].
  at::Tensor Of(const at::Tensor& rows) const { return count == rows.size(1) ? rows : rows.narrow(1, first, count); }
};

class TokenSpans {
 public:
  /// `modulation` [1, 6, D] of a block; `e0` of its inputs, [B, 6, D], or [B, 12, D] where the first `held` of `all`
  /// tokens are of a held frame.
  TokenSpans(const at::Tensor& modulation, const at::Tensor& e0, std::int64_t held, std::int64_t all,
             const TokenShare* share);

  /// What `f` gives of each span, at::Tensor [B, count, D] or StreamAndNorm of such, as of all tokens.
  template <typename F>
  auto Each(const F& f) const {
    return spans_.size() == 1 ? f(spans_[0]) : Joined(f(spans_[0]), f(spans_[1]));
  }

 private:
  static at::Tensor Joined(const at::Tensor& held, const at::Tensor& rest);
  static StreamAndNorm Joined(const StreamAndNorm& held, const StreamAndNorm& rest);

  std::vector<TokenSpan> spans_;  // one or two
};

}  // namespace sgmd
