// The row operations of a Wan block (wan_facts §1.3), forward and backward, for any team (team.h). Each is a structure
// of pointers to contiguous arrays, which computes the row that it is called with. T is float or Bf16: the dtype of the
// residual stream and of what Linears take and give; arithmetic, statistics and parameters are float32. An array that
// is "per sample" has a row of `width` for each sample of `tokens` rows.
//
// Backward operations add the row's share of the gradients of parameters to `sums`, rows of `width` that belong to the
// caller; null: they are not asked for.
#pragma once

#include "pipeline/kernels/team.h"

namespace sgmd::rows {

/// What a norm is followed by: n (plus_one + scale) + shift.
struct Modulation {
  const float *scale, *shift;  // per sample with plus_one = 1; with plus_one = 0 one row for all: an affine norm
  float plus_one;
  std::int64_t tokens;

  SGMD_ROW_FN std::int64_t Offset(std::int64_t row, int width) const {
    return plus_one == 0 ? 0 : row / tokens * width;
  }
};

/// How a row comes to the norm.
enum class Add { kNone, kPlain, kGated };

/// n = layer_norm(s) modulated, where s is x, x + y or x + y gate, rounded to T first; with kNone there is no sum.
template <typename T, Add kAdd>
struct Norm {
  const T *x, *y;
  const float* gate;  // per sample
  Modulation modulation;
  T *sum, *n;
  float *mean, *rstd;  // a value a row
  float eps;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t row) const {
    const int width = team.width();
    const std::int64_t at_row = row * width, at_sample = row / modulation.tokens * width;
    Pack s = Fill(0);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      p = Load(x + at_row, at);
      if constexpr (kAdd != Add::kNone) {
        Pack added = Load(y + at_row, at);
        if constexpr (kAdd == Add::kGated) added = added * Load(gate + at_sample, at);
        p = Rounded<T>(p + added);
        Store(sum + at_row, at, p);
      }
      s = s + p;
    });
    const float m = team.Sum(s) / static_cast<float>(width);
    s = Fill(0);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      p = Keep(p - m, at);
      s = s + p * p;
    });
    const float r = 1.0F / sqrtf(team.Sum(s) / static_cast<float>(width) + eps);
    const float* scale = modulation.scale + modulation.Offset(row, width);
    const float* shift = modulation.shift + modulation.Offset(row, width);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      Store(n + at_row, at, p * r * (Load(scale, at) + modulation.plus_one) + Load(shift, at));
    });
    if (team.IsFirst()) {
      mean[row] = m;
      rstd[row] = r;
    }
  }
};

/// Of Norm, from the gradients of n and, where it is used past the norm, of the sum. `sums`: those of scale, of shift
/// and, with kGated, of the gate.
template <typename T, Add kAdd>
struct NormBackward {
  static constexpr int kSums = kAdd == Add::kGated ? 3 : 2;
  const T *dn, *dsum;  // dsum may be null
  const T *sum, *y;    // what was normed; y with kGated and where sums are asked for
  const float* gate;
  Modulation modulation;
  const float *mean, *rstd;
  T *dx, *dy;  // dy with kGated: with kPlain it is dx

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t row, float* sums) const {
    const int width = team.width();
    const std::int64_t at_row = row * width, at_sample = row / modulation.tokens * width;
    const float* scale = modulation.scale + modulation.Offset(row, width);
    const float m = mean[row], r = rstd[row];
    Pack s = Fill(0), s_normed = Fill(0);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      const Pack g = Load(dn + at_row, at), normed = (Load(sum + at_row, at) - m) * r;
      if (sums != nullptr) {
        Store(sums, at, Load(sums, at) + g * normed);
        Store(sums + width, at, Load(sums + width, at) + g);
      }
      p = g * (Load(scale, at) + modulation.plus_one);  // zero past the end of the row, as g is
      s = s + p;
      s_normed = s_normed + p * normed;
    });
    const float mean_p = team.Sum(s) / static_cast<float>(width);
    const float mean_normed = team.Sum(s_normed) / static_cast<float>(width);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      const Pack normed = (Load(sum + at_row, at) - m) * r;
      Pack d = (p - mean_p - normed * mean_normed) * r;
      if (dsum != nullptr) d = d + Load(dsum + at_row, at);
      Store(dx + at_row, at, d);
      if constexpr (kAdd == Add::kGated) {
        Store(dy + at_row, at, d * Load(gate + at_sample, at));
        if (sums != nullptr) {
          float* of_gate = sums + 2 * static_cast<std::int64_t>(width);
          Store(of_gate, at, Load(of_gate, at) + d * Load(y + at_row, at));
        }
      }
    });
  }
};

/// sum = x + y gate.
template <typename T>
struct GatedAdd {
  const T *x, *y;
  const float* gate;  // per sample
  std::int64_t tokens;
  T* sum;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t row) const {
    const std::int64_t at_row = row * team.width(), at_sample = row / tokens * team.width();
    team.Each([&](Pack&, auto at) SGMD_ROW_LAMBDA {
      Store(sum + at_row, at, Load(x + at_row, at) + Load(y + at_row, at) * Load(gate + at_sample, at));
    });
  }
};

/// Of GatedAdd; the gradient of x is that of the sum. `sums`: that of the gate.
template <typename T>
struct GatedAddBackward {
  static constexpr int kSums = 1;
  const T *dsum, *y;  // y where sums are asked for
  const float* gate;
  std::int64_t tokens;
  T* dy;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t row, float* sums) const {
    const std::int64_t at_row = row * team.width(), at_sample = row / tokens * team.width();
    team.Each([&](Pack&, auto at) SGMD_ROW_LAMBDA {
      const Pack g = Load(dsum + at_row, at);
      Store(dy + at_row, at, g * Load(gate + at_sample, at));
      if (sums != nullptr) Store(sums, at, Load(sums, at) + g * Load(y + at_row, at));
    });
  }
};

/// y = rotate(x / rms(x) weight). `table` [tokens, head] has cosine and sine in turn; all heads of a row turn alike.
template <typename T>
struct RmsRotate {
  const T* x;
  const float *weight, *table;  // table null: no rotation
  int head;
  std::int64_t tokens;
  T* y;
  float* rrms;  // a value a row
  float eps;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t row) const {
    const int width = team.width();
    const std::int64_t at_row = row * width;
    const float* turn = table == nullptr ? nullptr : table + row % tokens * head;
    Pack s = Fill(0);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      p = Load(x + at_row, at);
      s = s + p * p;
    });
    const float r = 1.0F / sqrtf(team.Sum(s) / static_cast<float>(width) + eps);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      Pack n = p * r * Load(weight, at);
      if (turn != nullptr) n = Rotate(n, LoadCyclic(turn, head, at), 1.0F);
      Store(y + at_row, at, n);
    });
    if (team.IsFirst()) rrms[row] = r;
  }
};

/// Of RmsRotate. `sums`: that of the weight.
template <typename T>
struct RmsRotateBackward {
  static constexpr int kSums = 1;
  const T *dy, *x;
  const float *weight, *table;
  int head;
  std::int64_t tokens;
  const float* rrms;
  T* dx;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t row, float* sums) const {
    const int width = team.width();
    const std::int64_t at_row = row * width;
    const float* turn = table == nullptr ? nullptr : table + row % tokens * head;
    const float r = rrms[row];
    Pack s = Fill(0);
    team.Each([&](Pack& p, auto at) SGMD_ROW_LAMBDA {
      Pack g = Load(dy + at_row, at);
      if (turn != nullptr) g = Rotate(g, LoadCyclic(turn, head, at), -1.0F);
      const Pack normed = Load(x + at_row, at) * r;
      if (sums != nullptr) Store(sums, at, Load(sums, at) + g * normed);
      p = g * Load(weight, at);
      s = s + p * normed;
    });
    const float mean = team.Sum(s) / static_cast<float>(width);
    team.Each([&](Pack& p, auto at)
                  SGMD_ROW_LAMBDA { Store(dx + at_row, at, (p - Load(x + at_row, at) * r * mean) * r); });
  }
};

}  // namespace sgmd::rows
