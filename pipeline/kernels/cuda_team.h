// Packs and the team of CUDA: one block of threads a row. Included by team.h, under nvcc alone.
#pragma once

#include "pipeline/kernels/team.h"

namespace sgmd::rows {

struct Pack {
  float lane[kLanes];
};

template <typename F>
SGMD_ROW_FN Pack Make(F f) {
  Pack p;
#pragma unroll
  for (int l = 0; l < kLanes; ++l) p.lane[l] = f(l);
  return p;
}
SGMD_ROW_FN Pack Fill(float x) {
  return Make([=](int) { return x; });
}
SGMD_ROW_FN Pack operator+(const Pack& a, const Pack& b) {
  return Make([&](int l) { return a.lane[l] + b.lane[l]; });
}
SGMD_ROW_FN Pack operator-(const Pack& a, const Pack& b) {
  return Make([&](int l) { return a.lane[l] - b.lane[l]; });
}
SGMD_ROW_FN Pack operator*(const Pack& a, const Pack& b) {
  return Make([&](int l) { return a.lane[l] * b.lane[l]; });
}
SGMD_ROW_FN Pack operator/(const Pack& a, const Pack& b) {
  return Make([&](int l) { return a.lane[l] / b.lane[l]; });
}
SGMD_ROW_FN Pack operator+(const Pack& a, float b) { return a + Fill(b); }
SGMD_ROW_FN Pack operator-(const Pack& a, float b) { return a - Fill(b); }
SGMD_ROW_FN Pack operator*(const Pack& a, float b) { return a * Fill(b); }
SGMD_ROW_FN Pack operator/(float a, const Pack& b) { return Fill(a) / b; }
/// e^a, and beyond -87 and 88 as if it were there, so that it has a reciprocal and a product with zero; NaN stays NaN.
SGMD_ROW_FN Pack Exp(const Pack& a) {
  return Make([&](int l) {
    const float x = a.lane[l];
    return expf(x < -87.0F ? -87.0F : x > 88.0F ? 88.0F : x);
  });
}

SGMD_ROW_FN Pack Sqrt(const Pack& a) {
  return Make([&](int l) { return sqrtf(a.lane[l]); });
}

SGMD_ROW_FN float Widen(float x) { return x; }
SGMD_ROW_FN float Widen(Bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}
SGMD_ROW_FN void Narrow(float x, float& to) { to = x; }
SGMD_ROW_FN void Narrow(float x, Bf16& to) {  // to the nearest, ties to even; NaN stays NaN
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  to.bits = x != x ? 0x7FC0 : static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// `p` as a T keeps it.
template <typename T>
SGMD_ROW_FN Pack Rounded(const Pack& p) {
  return Make([&](int l) {
    T rounded;
    Narrow(p.lane[l], rounded);
    return Widen(rounded);
  });
}

/// Widths are multiples of kLanes here, and rows begin at multiples of 16 bytes: the launchers see to it.
template <typename T>
SGMD_ROW_FN Pack Load(const T* row, Whole at) {
  alignas(16) T raw[kLanes];
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(raw) / 16); ++i)
    reinterpret_cast<uint4*>(raw)[i] = reinterpret_cast<const uint4*>(row + at.first)[i];
  return Make([&](int l) { return Widen(raw[l]); });
}
template <typename T>
SGMD_ROW_FN void Store(T* row, Whole at, const Pack& p) {
  alignas(16) T raw[kLanes];
#pragma unroll
  for (int l = 0; l < kLanes; ++l) Narrow(p.lane[l], raw[l]);
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(raw) / 16); ++i)
    reinterpret_cast<uint4*>(row + at.first)[i] = reinterpret_cast<const uint4*>(raw)[i];
}
/// `table` repeated along the row: lane l has table[(at.first + l) % period].
SGMD_ROW_FN Pack LoadCyclic(const float* table, int period, Whole at) {
  if (period % kLanes == 0) return Load(table, Whole{at.first % period});
  return Make([&](int l) { return table[(at.first + l) % period]; });
}
SGMD_ROW_FN Pack Keep(const Pack& p, Whole) { return p; }

/// Interleaved pairs (a, b) of `p` times (c, s) of `turn` as complex numbers; with direction -1 times its conjugate.
SGMD_ROW_FN Pack Rotate(const Pack& p, const Pack& turn, float direction) {
  return Make([&](int l) {
    const int even = l & ~1;
    const float c = turn.lane[even], s = turn.lane[even + 1] * direction;
    return l == even ? p.lane[l] * c - p.lane[l + 1] * s : p.lane[l] * c + p.lane[l - 1] * s;
  });
}

/// A block of `Threads` threads, each with up to `Packs` packs of the row, which stay in its registers.
template <int Packs, int Threads>
class BlockTeam {
 public:
  static constexpr int kThreads = Threads;
  static constexpr int kMostWidth = Packs * Threads * kLanes;
  __device__ __forceinline__ explicit BlockTeam(int width) : width_(width) {}

  __device__ __forceinline__ int width() const { return width_; }
  template <typename F>
  __device__ __forceinline__ void Each(const F& f) {
#pragma unroll
    for (int k = 0; k < Packs; ++k) {
      const int first = (k * Threads + static_cast<int>(threadIdx.x)) * kLanes;
      if (first < width_) f(packs_[k], Whole{first});
    }
  }
  __device__ __forceinline__ float Sum(const Pack& p) const {
    __shared__ float of_warp[Threads / 32];
    float sum = 0;
#pragma unroll
    for (int l = 0; l < kLanes; ++l) sum += p.lane[l];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    __syncthreads();  // the last sum has been read by all
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    float all = 0;
#pragma unroll
    for (int w = 0; w < Threads / 32; ++w) all += of_warp[w];
    return all;
  }
  __device__ __forceinline__ bool IsFirst() const { return threadIdx.x == 0; }

 private:
  int width_;
  Pack packs_[Packs];
};

}  // namespace sgmd::rows
