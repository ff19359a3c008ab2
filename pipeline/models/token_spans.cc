#include "pipeline/models/token_spans.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace sgmd {

std::pair<std::int64_t, std::int64_t> OwnTokens(std::int64_t all, const TokenShare* share) {
  return share == nullptr ? std::pair<std::int64_t, std::int64_t>{0, all} : share->RangeOf(share->rank(), all);
}

TokenSpans::TokenSpans(const at::Tensor& modulation, const at::Tensor& e0, std::int64_t held, std::int64_t all,
                       const TokenShare* share) {
  constexpr std::int64_t kEach = 6;
  const auto [first, count] = OwnTokens(all, share);
  const std::int64_t held_here = std::clamp<std::int64_t>(held - first, 0, count);
  const auto add = [&](std::int64_t begin, std::int64_t tokens, std::int64_t time) {
    if (tokens == 0) return;
    spans_.push_back({begin, tokens, (modulation + Wide(e0.narrow(1, kEach * time, kEach))).chunk(kEach, 1)});
  };
  add(0, held_here, 0);
  add(held_here, count - held_here, held > 0 ? 1 : 0);
}

at::Tensor TokenSpans::Joined(const at::Tensor& held, const at::Tensor& rest) { return at::cat({held, rest}, 1); }

StreamAndNorm TokenSpans::Joined(const StreamAndNorm& held, const StreamAndNorm& rest) {
  return {Joined(held.stream, rest.stream), Joined(held.norm, rest.norm)};
}

}  // namespace sgmd
