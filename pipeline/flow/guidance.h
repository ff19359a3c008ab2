// How strongly classifier-free guidance guides.
#pragma once

#include <string>

#include "common/error/error.h"
#include "common/storage/model_folder.h"

namespace sgmd {

/// w in u + w (c - u), which a model of two experts may have one each of (Wan2.2-T2V-A14B is sampled with 4 and 3).
struct Guidance {
  double high = 1, low = 1;  // at noise levels from the boundary on, and below it
  double boundary = 0;

  Guidance(double both = 1) : high(both), low(both) {}  // NOLINT: one number reads as itself
  Guidance(double from_boundary, double below, double at) : high(from_boundary), low(below), boundary(at) {}

  double At(double sigma) const { return IsFrom(boundary, sigma) ? high : low; }
  /// Whether the unconditional pass is run at any noise level.
  bool Guides() const { return high != 1 || low != 1; }
  /// "4", or "4 (3 below sigma 0.875)".
  std::string Text() const {
    return high == low ? StrCat(high) : StrCat(high, " (", low, " below sigma ", boundary, ")");
  }
  /// "u + 4 (c - u)", or "u + 4 (c - u), below sigma 0.875 u + 3 (c - u)".
  std::string Formula() const {
    const std::string first = StrCat("u + ", high, " (c - u)");
    return high == low ? first : StrCat(first, ", below sigma ", boundary, " u + ", low, " (c - u)");
  }
};

}  // namespace sgmd
