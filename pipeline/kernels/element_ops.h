// Operations that go element by element, for any team (team.h): GELU (wan_facts §1.3) forward and backward, AdamW. A
// row is any stretch of `width` elements, and an operation is called with its first. T is float or Bf16; arithmetic is
// float32.
#pragma once

#include "pipeline/kernels/row_ops.h"

namespace sgmd::rows {

/// GELU in its tanh form, x / (1 + e^(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), element by element.
constexpr float kGeluScale = 0.7978845608F, kGeluCube = 0.044715F;
template <typename T>
struct Gelu {
  const T* x;
  T* y;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t first) const {
    team.Each([&](Pack&, auto at) SGMD_ROW_LAMBDA {
      const Pack a = Load(x + first, at);
      const Pack u = (a + a * a * a * kGeluCube) * kGeluScale;
      Store(y + first, at, a / (Exp(u * -2.0F) + 1.0F));
    });
  }
};

/// Of Gelu: with s = 1 / (1 + e^(-2 u)) it is s + 2 x u' s (1 - s).
template <typename T>
struct GeluBackward {
  const T *dy, *x;
  T* dx;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t first) const {
    team.Each([&](Pack&, auto at) SGMD_ROW_LAMBDA {
      const Pack a = Load(x + first, at), square = a * a;
      const Pack u = (a + square * a * kGeluCube) * kGeluScale;
      const Pack slope = (square * (3 * kGeluCube) + 1.0F) * (2 * kGeluScale);  // 2 u'
      const Pack e = Exp(u * -2.0F), s = 1.0F / (e + 1.0F);
      Store(dx + first, at, Load(dy + first, at) * (s + a * slope * (e * s) * s));
    });
  }
};

/// AdamW and the average of its parameters, element by element (adamw_step.h).
struct AdamW {
  float* p;
  const float* gradient;
  float *second, *first, *average;  // first null: the gradient; average null: none
  float clip, beta1, rest1, beta2, rest2, correction2, epsilon, keep, step_size, average_weight;

  template <typename Team>
  SGMD_ROW_FN void operator()(Team& team, std::int64_t begin) const {
    team.Each([&](Pack&, auto at) SGMD_ROW_LAMBDA {
      const Pack g = Load(gradient + begin, at) * clip;
      const Pack v = Load(second + begin, at) * beta2 + g * g * rest2;
      Store(second + begin, at, v);
      Pack direction = g;
      if (first != nullptr) {
        direction = Load(first + begin, at) * beta1 + g * rest1;
        Store(first + begin, at, direction);
      }
      const Pack scale = Sqrt(v / Fill(correction2)) + epsilon;
      const Pack now = Load(p + begin, at) * keep - direction / scale * step_size;
      Store(p + begin, at, now);
      if (average != nullptr) {
        const Pack old = Load(average + begin, at);
        Store(average + begin, at, old + (now - old) * average_weight);
      }
    });
  }
};

}  // namespace sgmd::rows

// All operations of rows and elements for a T, by how they run: for what instantiates the loops.
#define SGMD_OPERATIONS(T)                  \
  SGMD_ROWS(Norm<T, Add::kNone>)            \
  SGMD_ROWS(Norm<T, Add::kPlain>)           \
  SGMD_ROWS(Norm<T, Add::kGated>)           \
  SGMD_ROWS(GatedAdd<T>)                    \
  SGMD_ROWS(RmsRotate<T>)                   \
  SGMD_ELEMENTS(Gelu<T>)                    \
  SGMD_ELEMENTS(GeluBackward<T>)            \
  SGMD_SHARES(NormBackward<T, Add::kNone>)  \
  SGMD_SHARES(NormBackward<T, Add::kGated>) \
  SGMD_SHARES(GatedAddBackward<T>)          \
  SGMD_SHARES(RmsRotateBackward<T>)
