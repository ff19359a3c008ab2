// The row kernels as tests call them: each with tensors drawn for it.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <ostream>

#include "pipeline/kernels/kernels.h"

namespace sgmd {

inline constexpr double kEps = 1e-6;
inline constexpr std::int64_t kWidths[] = {128, 1536, 3072, 5120, 7, 100, 130};

using Tensors = std::vector<at::Tensor>;

// One operation: the tensors it is given, and what it makes of them.
struct Operation {
  const char* name;
  std::function<Tensors(std::int64_t b, std::int64_t n, std::int64_t d, at::ScalarType dtype)> draw;
  std::function<Tensors(Kernels, const Tensors&)> run;
};
inline std::ostream& operator<<(std::ostream& out, const Operation& operation) { return out << operation.name; }

inline at::Tensor Rows(std::int64_t b, std::int64_t n, std::int64_t d, at::ScalarType dtype) {
  return (at::randn({b, n, d}) * 1.5 + 0.3).to(dtype);
}
inline at::Tensor PerSample(std::int64_t b, std::int64_t d) { return at::randn({b, 1, d}) * 0.5; }
inline at::Tensor Weight(std::int64_t d) { return at::rand({d}) + 0.5; }
// Rotations of heads of 10 to 128, or of 2 pairs for widths that are no multiple; of an odd width there are none.
inline at::Tensor Rotations(std::int64_t n, std::int64_t d) {
  if (d % 2 != 0) return {};
  const std::int64_t head = d % 128 == 0 ? 128 : d % 10 == 0 ? 10 : 2;
  const at::Tensor angles = at::randn({n, head / 2});
  return at::polar(at::ones_like(angles), angles);
}

inline const Operation kOperations[] = {
    {"AdaptiveNorm",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), PerSample(b, d), PerSample(b, d)};
     },
     [](Kernels k, const Tensors& t) -> Tensors { return {AdaptiveNorm(k, t[0], t[1], t[2], kEps)}; }},
    {"AddGatedThenAdaptiveNorm",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), Rows(b, n, d, dtype), PerSample(b, d), PerSample(b, d), PerSample(b, d)};
     },
     [](Kernels k, const Tensors& t) -> Tensors {
       const auto [stream, norm] = AddThenNorm(k, t[0], t[1], t[2], t[3], t[4], kEps);
       return {stream, norm};
     }},
    {"AddGatedThenAffineNorm",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), Rows(b, n, d, dtype), PerSample(b, d), Weight(d), Weight(d)};
     },
     [](Kernels k, const Tensors& t) -> Tensors {
       const auto [stream, norm] = AddThenNorm(k, t[0], t[1], t[2], t[3], t[4], kEps);
       return {stream, norm};
     }},
    {"AddThenAdaptiveNorm",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), Rows(b, n, d, dtype), PerSample(b, d), PerSample(b, d)};
     },
     [](Kernels k, const Tensors& t) -> Tensors {
       const auto [stream, norm] = AddThenNorm(k, t[0], t[1], {}, t[2], t[3], kEps);
       return {stream, norm};
     }},
    {"AddGated",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), Rows(b, n, d, dtype), PerSample(b, d)};
     },
     [](Kernels k, const Tensors& t) -> Tensors { return {AddGated(k, t[0], t[1], t[2])}; }},
    {"RmsNormThenRotate",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), Weight(d), Rotations(n, d)};
     },
     [](Kernels k, const Tensors& t) -> Tensors { return {RmsNormThenRotate(k, t[0], t[1], t[2], kEps)}; }},
    {"RmsNorm",
     [](auto b, auto n, auto d, auto dtype) -> Tensors {
       return {Rows(b, n, d, dtype), Weight(d).to(dtype)};
     },
     [](Kernels k, const Tensors& t) -> Tensors { return {RmsNormThenRotate(k, t[0], t[1], {}, kEps)}; }},
    {"Gelu", [](auto b, auto n, auto d, auto dtype) -> Tensors { return {Rows(b, n, d, dtype) * 3}; },
     [](Kernels k, const Tensors& t) -> Tensors { return {Gelu(k, t[0])}; }},
};

inline Tensors Leaves(const Tensors& tensors) {
  Tensors leaves;
  for (const at::Tensor& t : tensors) {
    const bool trains = t.defined() && !t.is_complex();
    leaves.push_back(trains ? t.detach().clone().requires_grad_() : t);
  }
  return leaves;
}

// Results, then the gradients of all inputs; those of the results are bfloat16 numbers in any dtype.
inline Tensors ValuesAndGradients(const Operation& operation, Kernels kernels, const Tensors& inputs) {
  const Tensors leaves = Leaves(inputs);
  Tensors results = operation.run(kernels, leaves), wanted, weights;
  for (std::size_t i = 0; i < results.size(); ++i)
    weights.push_back(
        (inputs[0].to(at::kFloat) * static_cast<double>(i + 1)).cos().to(at::kBFloat16).to(results[i].scalar_type()));
  for (const at::Tensor& t : leaves) {
    if (t.defined() && t.requires_grad()) wanted.push_back(t);
  }
  const Tensors gradients = torch::autograd::grad(results, wanted, weights);
  for (at::Tensor& r : results) r = r.detach();
  results.insert(results.end(), gradients.begin(), gradients.end());
  return results;
}

inline double LargestError(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wide = expected.to(at::kDouble);
  return ((found.to(at::kDouble) - wide).abs().max() / wide.abs().max()).item<double>();
}

}  // namespace sgmd
