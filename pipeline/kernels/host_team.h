// Packs and the team of the CPU: one thread a row, with vectors of the compiler. Included by team.h, but under nvcc.
#pragma once

#include "pipeline/kernels/team.h"

namespace sgmd::rows {

#if defined(__AVX512F__)
constexpr int kPartLanes = 16;
#elif defined(__AVX2__)
constexpr int kPartLanes = 8;
#else
constexpr int kPartLanes = 4;
#endif
constexpr int kParts = kLanes / kPartLanes;

/// Registers of the instruction set. A pack is made of them: the compiler splits wider vectors badly.
using Part = float __attribute__((vector_size(4 * kPartLanes)));
using PartBits = std::uint32_t __attribute__((vector_size(4 * kPartLanes)));
using LoosePart = float __attribute__((vector_size(4 * kPartLanes), aligned(4), may_alias));
using HalfBits = std::uint16_t __attribute__((vector_size(2 * kLanes)));
using PackBits = std::uint32_t __attribute__((vector_size(4 * kLanes)));
using LooseHalfBits = std::uint16_t __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));

struct Pack {
  Part part[kParts];
};

/// The pack of f(0), f(1), ..., a part each.
template <typename F>
SGMD_ROW_FN Pack Make(const F& f) {
  Pack p;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) p.part[i] = f(i);
  return p;
}
SGMD_ROW_FN Pack Fill(float x) {
  return Make([=](int) SGMD_ROW_LAMBDA { return x - Part{}; });
}
SGMD_ROW_FN Pack operator+(const Pack& a, const Pack& b) {
  return Make([&](int i) SGMD_ROW_LAMBDA { return a.part[i] + b.part[i]; });
}
SGMD_ROW_FN Pack operator-(const Pack& a, const Pack& b) {
  return Make([&](int i) SGMD_ROW_LAMBDA { return a.part[i] - b.part[i]; });
}
SGMD_ROW_FN Pack operator*(const Pack& a, const Pack& b) {
  return Make([&](int i) SGMD_ROW_LAMBDA { return a.part[i] * b.part[i]; });
}
SGMD_ROW_FN Pack operator/(const Pack& a, const Pack& b) {
  return Make([&](int i) SGMD_ROW_LAMBDA { return a.part[i] / b.part[i]; });
}
SGMD_ROW_FN Pack operator+(const Pack& a, float b) { return a + Fill(b); }
SGMD_ROW_FN Pack operator-(const Pack& a, float b) { return a - Fill(b); }
SGMD_ROW_FN Pack operator*(const Pack& a, float b) { return a * Fill(b); }
SGMD_ROW_FN Pack operator/(float a, const Pack& b) { return Fill(a) / b; }

/// e^a to 2e-7 of itself, for a from -87 to 88, and beyond as if it were there; NaN stays NaN.
SGMD_ROW_FN Part Exp(Part a) {
  a = a < -87.0F ? -87.0F - Part{} : a;
  a = a > 88.0F ? 88.0F - Part{} : a;
  // a = n ln 2 + r: what is added has the weight of its last bit at 1, so that the sum's low bits are the integer n.
  const Part shifted = a * 1.44269504F + 12582912.0F;
  const Part n = shifted - 12582912.0F;
  const Part r = a - n * 0.693359375F - n * -2.12194440e-4F;  // the first product is exact
  // The series of e^r, |r| <= ln 2 / 2: what follows is below r^8 / 8! = 5e-9.
  Part sum = r * (1.0F / 5040) + 1.0F / 720;
  sum = sum * r + 1.0F / 120;
  sum = sum * r + 1.0F / 24;
  sum = sum * r + 1.0F / 6;
  sum = sum * r + 0.5F;
  sum = (sum * r) * r + r + 1.0F;
  const PartBits power = (reinterpret_cast<PartBits>(shifted) << 23) + (127U << 23);  // 2^n
  return sum * reinterpret_cast<Part>(power);
}
SGMD_ROW_FN Pack Exp(const Pack& a) {
  return Make([&](int i) SGMD_ROW_LAMBDA { return Exp(a.part[i]); });
}

SGMD_ROW_FN Pack Sqrt(const Pack& a) {
  return Make([&](int i) SGMD_ROW_LAMBDA {
    Part root;
    for (int l = 0; l < kPartLanes; ++l) root[l] = sqrtf(a.part[i][l]);
    return root;
  });
}

/// The nearest bfloat16, ties to even, in the upper half of each element; NaN stays NaN.
SGMD_ROW_FN PartBits RoundedBits(const Part& x) {
  const PartBits bits = reinterpret_cast<PartBits>(x);
  const PartBits rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  return (x == x ? rounded : PartBits{} + 0x7FC00000U) & 0xFFFF0000U;
}
/// `p` as a T keeps it.
template <typename T>
SGMD_ROW_FN Pack Rounded(const Pack& p) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return p;
  } else {
    return Make([&](int i) SGMD_ROW_LAMBDA { return reinterpret_cast<Part>(RoundedBits(p.part[i])); });
  }
}

SGMD_ROW_FN Pack Load(const float* row, Whole at) {
  return Make([&](int i) SGMD_ROW_LAMBDA {
    return static_cast<Part>(reinterpret_cast<const LoosePart*>(row + at.first + i * kPartLanes)[0]);
  });
}
SGMD_ROW_FN void Store(float* row, Whole at, const Pack& p) {
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) *reinterpret_cast<LoosePart*>(row + at.first + i * kPartLanes) = p.part[i];
}
SGMD_ROW_FN Pack Load(const Bf16* row, Whole at) {
  const HalfBits half = *reinterpret_cast<const LooseHalfBits*>(row + at.first);
  const PackBits bits = __builtin_convertvector(half, PackBits) << 16;
  Pack p;
  memcpy(&p, &bits, sizeof p);
  return p;
}
SGMD_ROW_FN void Store(Bf16* row, Whole at, const Pack& p) {
  PackBits bits;
  const auto rounded = Rounded<Bf16>(p);
  memcpy(&bits, &rounded, sizeof bits);
  *reinterpret_cast<LooseHalfBits*>(row + at.first) = __builtin_convertvector(bits >> 16, HalfBits);
}

/// Lanes past the end of the row are zero when loaded, and not stored.
template <typename T>
SGMD_ROW_FN Pack Load(const T* row, Rest at) {
  T lanes[kLanes] = {};
  memcpy(lanes, row + at.first, static_cast<std::size_t>(at.count) * sizeof(T));
  return Load(lanes, Whole{0});
}
template <typename T>
SGMD_ROW_FN void Store(T* row, Rest at, const Pack& p) {
  T lanes[kLanes];
  Store(lanes, Whole{0}, p);
  memcpy(row + at.first, lanes, static_cast<std::size_t>(at.count) * sizeof(T));
}

/// `table` repeated along the row: lane l has table[(at.first + l) % period].
template <typename At>
SGMD_ROW_FN Pack LoadCyclic(const float* table, int period, At at) {
  if (period % kLanes == 0) return Load(table, Whole{at.first % period});
  float lanes[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = table[(at.first + l) % period];
  return Load(lanes, Whole{0});
}

/// `p` with zeros past the end of the row.
SGMD_ROW_FN Pack Keep(const Pack& p, Whole) { return p; }
SGMD_ROW_FN Pack Keep(const Pack& p, Rest at) {
  float lanes[kLanes];
  Store(lanes, Whole{0}, p);
  return Load(lanes, Rest{0, at.count});
}

/// Lanes of a part in the order of the indices, which are those of the first four and repeat.
#if defined(__AVX512F__)
#define SGMD_LANES(a, i, j, k, l)                                                                                   \
  __builtin_shufflevector(a, a, i, j, k, l, (i) + 4, (j) + 4, (k) + 4, (l) + 4, (i) + 8, (j) + 8, (k) + 8, (l) + 8, \
                          (i) + 12, (j) + 12, (k) + 12, (l) + 12)
#elif defined(__AVX2__)
#define SGMD_LANES(a, i, j, k, l) __builtin_shufflevector(a, a, i, j, k, l, (i) + 4, (j) + 4, (k) + 4, (l) + 4)
#else
#define SGMD_LANES(a, i, j, k, l) __builtin_shufflevector(a, a, i, j, k, l)
#endif

/// Interleaved pairs (a, b) of `p` times (c, s) of `turn` as complex numbers; with direction -1 times its conjugate.
SGMD_ROW_FN Pack Rotate(const Pack& p, const Pack& turn, float direction) {
  const float signs[kLanes] = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
  const Part sign = Load(signs, Whole{0}).part[0] * direction;
  return Make([&](int i) SGMD_ROW_LAMBDA {
    const Part c = SGMD_LANES(turn.part[i], 0, 0, 2, 2), s = SGMD_LANES(turn.part[i], 1, 1, 3, 3);
    return p.part[i] * c + SGMD_LANES(p.part[i], 1, 0, 3, 2) * (s * sign);
  });
}
#undef SGMD_LANES

/// Room for one pack of a row, between the passes over it, for any instruction set.
struct alignas(4 * kLanes) PackRoom {
  float lane[kLanes];
};

/// One thread, which goes through the packs in order, with room for those of a row.
class HostTeam {
 public:
  SGMD_ROW_FN HostTeam(int width, PackRoom* room) : width_(width), packs_(reinterpret_cast<Pack*>(room)) {}

  SGMD_ROW_FN int width() const { return width_; }
  template <typename F>
  SGMD_ROW_FN void Each(const F& f) const {
    const int whole = width_ / kLanes;
    for (int k = 0; k < whole; ++k) f(packs_[k], Whole{k * kLanes});
    if (whole * kLanes < width_) f(packs_[whole], Rest{whole * kLanes, width_ - whole * kLanes});
  }
  SGMD_ROW_FN float Sum(const Pack& p) const {
    float lanes[kLanes];
    Store(lanes, Whole{0}, p);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    }
    return lanes[0];
  }
  SGMD_ROW_FN bool IsFirst() const { return true; }

 private:
  int width_;
  Pack* packs_;
};

}  // namespace sgmd::rows
