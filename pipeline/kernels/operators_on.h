// The operators of operators.h, written once: Device says how a row operation is run, and how sums of shares of rows
// are added up (kernels_cpu.cc, pipeline/cuda/row_operators.cc).
//   void Run(op, extents), RunEach(op, elements)
//   Tensor RunWithSums(op, extents, like, sums): the sums of shares, [B, shares, Op::kSums, D], or nothing
//   Tensor Total(parts, which, shape): those number `which` of all shares, added in their order
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>

#include "pipeline/kernels/element_ops.h"
#include "pipeline/kernels/operators.h"
#include "pipeline/kernels/row_ops.h"

namespace sgmd::operators {

inline const float* Floats(const Tensor& t) { return t.const_data_ptr<float>(); }
inline const float* Floats(const OptionalTensor& t) { return t.has_value() ? Floats(*t) : nullptr; }
inline float* NewFloats(const Tensor& t) { return t.mutable_data_ptr<float>(); }

template <typename T>
const T* Elements(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <typename T>
const T* Elements(const OptionalTensor& t) {
  return t.has_value() ? Elements<T>(*t) : nullptr;
}
template <typename T>
T* NewElements(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Calls f with a T for the dtype of x.
template <typename F>
auto ForDType(const Tensor& x, F f) {
  if (x.scalar_type() == at::kFloat) return f(float{});
  if (x.scalar_type() == at::kBFloat16) return f(rows::Bf16{});
  TORCH_CHECK(false, "a row kernel takes float32 and bfloat16, not ", x.scalar_type());
}

struct Extents {
  std::int64_t samples, tokens;
  int width;
  explicit Extents(const Tensor& x) : samples(x.size(0)), tokens(x.size(1)), width(static_cast<int>(x.size(2))) {}
  std::int64_t rows() const { return samples * tokens; }
};

inline Tensor NewRowValues(const Tensor& x) { return at::empty({x.size(0), x.size(1)}, x.options().dtype(at::kFloat)); }
inline Tensor Nothing(const Tensor& x) { return at::empty({0}, x.options().dtype(at::kFloat)); }

inline rows::Modulation ModulationOf(const Tensor& scale, const Tensor* shift, const Extents& e) {
  return {Floats(scale), shift == nullptr ? nullptr : Floats(*shift), scale.dim() == 1 ? 0.0F : 1.0F, e.tokens};
}

// Cosine and sine in turn; null: none.
inline const float* Turns(const OptionalTensor& table) {
  return table.has_value() ? static_cast<const float*>(table->const_data_ptr()) : nullptr;
}
inline int HeadOf(const OptionalTensor& table) { return table.has_value() ? static_cast<int>(2 * table->size(1)) : 0; }

template <typename Device>
std::tuple<Tensor, Tensor, Tensor> OperatorsOn<Device>::AdaNorm(const Tensor& x, const Tensor& scale,
                                                                const Tensor& shift, double eps) {
  const Extents e(x);
  Tensor n = at::empty_like(x), mean = NewRowValues(x), rstd = NewRowValues(x);
  ForDType(x, [&]<typename T>(T) {
    const auto modulation = ModulationOf(scale, &shift, e);
    Device::Run(
        rows::Norm<T, rows::Add::kNone>{Elements<T>(x), nullptr, nullptr, modulation, nullptr, NewElements<T>(n),
                                        NewFloats(mean), NewFloats(rstd), static_cast<float>(eps)},
        e);
  });
  return {n, mean, rstd};
}

template <typename Device>
std::tuple<Tensor, Tensor, Tensor> OperatorsOn<Device>::AdaNormBackward(const Tensor& dn, const Tensor& x,
                                                                        const Tensor& scale, const Tensor& mean,
                                                                        const Tensor& rstd, bool sums) {
  const auto [dx, dy, dgate, dscale, dshift] = AddNormBackward({}, dn, x, {}, {}, scale, mean, rstd, sums);
  return {dx, dscale, dshift};
}

template <typename Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> OperatorsOn<Device>::AddNorm(const Tensor& x, const Tensor& y,
                                                                        const OptionalTensor& gate, const Tensor& scale,
                                                                        const Tensor& shift, double eps) {
  const Extents e(x);
  Tensor sum = at::empty_like(x), n = at::empty_like(x), mean = NewRowValues(x), rstd = NewRowValues(x);
  ForDType(x, [&]<typename T>(T) {
    const auto run = [&]<rows::Add kAdd>() {
      Device::Run(rows::Norm<T, kAdd>{Elements<T>(x), Elements<T>(y), Floats(gate), ModulationOf(scale, &shift, e),
                                      NewElements<T>(sum), NewElements<T>(n), NewFloats(mean), NewFloats(rstd),
                                      static_cast<float>(eps)},
                  e);
    };
    gate.has_value() ? run.template operator()<rows::Add::kGated>() : run.template operator()<rows::Add::kPlain>();
  });
  return {sum, n, mean, rstd};
}

template <typename Device>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> OperatorsOn<Device>::AddNormBackward(
    const OptionalTensor& dsum, const Tensor& dn, const Tensor& sum, const OptionalTensor& y,
    const OptionalTensor& gate, const Tensor& scale, const Tensor& mean, const Tensor& rstd, bool sums) {
  const Extents e(sum);
  Tensor dx = at::empty_like(sum), dy = gate.has_value() ? at::empty_like(sum) : Nothing(sum), parts;
  ForDType(sum, [&]<typename T>(T) {
    const auto run = [&]<rows::Add kAdd>() {
      const rows::NormBackward<T, kAdd> op{Elements<T>(dn),   Elements<T>(dsum), Elements<T>(sum),
                                           Elements<T>(y),    Floats(gate),      ModulationOf(scale, nullptr, e),
                                           Floats(mean),      Floats(rstd),      NewElements<T>(dx),
                                           NewElements<T>(dy)};
      parts = Device::RunWithSums(op, e, sum, sums);
    };
    gate.has_value() ? run.template operator()<rows::Add::kGated>() : run.template operator()<rows::Add::kNone>();
  });
  Tensor dgate = sums && gate.has_value() ? Device::Total(parts, 2, gate->sizes()) : Nothing(sum);
  return {dx, dy, dgate, Device::Total(parts, 0, scale.sizes()), Device::Total(parts, 1, scale.sizes())};
}

template <typename Device>
Tensor OperatorsOn<Device>::AddGated(const Tensor& x, const Tensor& y, const Tensor& gate) {
  const Extents e(x);
  Tensor sum = at::empty_like(x);
  ForDType(x, [&]<typename T>(T) {
    Device::Run(rows::GatedAdd<T>{Elements<T>(x), Elements<T>(y), Floats(gate), e.tokens, NewElements<T>(sum)}, e);
  });
  return sum;
}

template <typename Device>
std::tuple<Tensor, Tensor> OperatorsOn<Device>::AddGatedBackward(const Tensor& dsum, const OptionalTensor& y,
                                                                 const Tensor& gate, bool sums) {
  const Extents e(dsum);
  Tensor dy = at::empty_like(dsum), parts;
  ForDType(dsum, [&]<typename T>(T) {
    const rows::GatedAddBackward<T> op{Elements<T>(dsum), Elements<T>(y), Floats(gate), e.tokens, NewElements<T>(dy)};
    parts = Device::RunWithSums(op, e, dsum, sums);
  });
  return {dy, Device::Total(parts, 0, gate.sizes())};
}

template <typename Device>
std::tuple<Tensor, Tensor> OperatorsOn<Device>::RmsRotate(const Tensor& x, const Tensor& weight,
                                                          const OptionalTensor& table, double eps) {
  const Extents e(x);
  Tensor y = at::empty_like(x), rrms = NewRowValues(x);
  ForDType(x, [&]<typename T>(T) {
    Device::Run(rows::RmsRotate<T>{Elements<T>(x), Floats(weight), Turns(table), HeadOf(table), e.tokens,
                                   NewElements<T>(y), NewFloats(rrms), static_cast<float>(eps)},
                e);
  });
  return {y, rrms};
}

template <typename Device>
std::tuple<Tensor, Tensor> OperatorsOn<Device>::RmsRotateBackward(const Tensor& dy, const Tensor& x,
                                                                  const Tensor& weight, const OptionalTensor& table,
                                                                  const Tensor& rrms, bool sums) {
  const Extents e(x);
  Tensor dx = at::empty_like(x), parts;
  ForDType(x, [&]<typename T>(T) {
    const rows::RmsRotateBackward<T> op{Elements<T>(dy), Elements<T>(x), Floats(weight), Turns(table),
                                        HeadOf(table),   e.tokens,       Floats(rrms),   NewElements<T>(dx)};
    parts = Device::RunWithSums(op, e, x, sums);
  });
  return {dx, Device::Total(parts, 0, weight.sizes())};
}

template <typename Device>
Tensor OperatorsOn<Device>::Gelu(const Tensor& x) {
  Tensor y = at::empty_like(x);
  ForDType(x, [&]<typename T>(T) { Device::RunEach(rows::Gelu<T>{Elements<T>(x), NewElements<T>(y)}, x.numel()); });
  return y;
}

template <typename Device>
Tensor OperatorsOn<Device>::GeluBackward(const Tensor& dy, const Tensor& x) {
  Tensor dx = at::empty_like(x);
  ForDType(x, [&]<typename T>(T) {
    Device::RunEach(rows::GeluBackward<T>{Elements<T>(dy), Elements<T>(x), NewElements<T>(dx)}, x.numel());
  });
  return dx;
}

template <typename Device>
void OperatorsOn<Device>::AdamW(const Tensor& parameter, const Tensor& gradient, const Tensor& second,
                                const OptionalTensor& first, const OptionalTensor& average, double clip, double beta1,
                                double beta2, double correction2, double epsilon, double keep, double step_size,
                                double average_weight) {
  const auto number = [](double x) { return static_cast<float>(x); };
  const auto written = [](const OptionalTensor& t) { return t.has_value() ? NewFloats(*t) : nullptr; };
  const rows::AdamW op{NewFloats(parameter), Floats(gradient),  NewFloats(second),     written(first),
                       written(average),     number(clip),      number(beta1),         number(1 - beta1),
                       number(beta2),        number(1 - beta2), number(correction2),   number(epsilon),
                       number(keep),         number(step_size), number(average_weight)};
  Device::RunEach(op, parameter.numel());
}

template <typename Device>
void OperatorsOn<Device>::Register(torch::Library& library) {
  library.impl("ada_norm", AdaNorm);
  library.impl("ada_norm_backward", AdaNormBackward);
  library.impl("add_norm", AddNorm);
  library.impl("add_norm_backward", AddNormBackward);
  library.impl("add_gated", AddGated);
  library.impl("add_gated_backward", AddGatedBackward);
  library.impl("rms_rotate", RmsRotate);
  library.impl("rms_rotate_backward", RmsRotateBackward);
  library.impl("gelu", Gelu);
  library.impl("gelu_backward", GeluBackward);
  library.impl("adamw_", AdamW);
}

}  // namespace sgmd::operators
