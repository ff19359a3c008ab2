#include "pipeline/kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "common/error/error.h"
#include "pipeline/kernels/operators.h"
#include "pipeline/kernels/reference.h"
#include "pipeline/kernels/row_kernels.h"

TORCH_LIBRARY(sgmd, library) {
  for (const char* schema : sgmd::operators::kSchemas) library.def(schema);
}

TORCH_LIBRARY_IMPL(sgmd, CPU, library) { sgmd::operators::OperatorsOn<sgmd::operators::Cpu>::Register(library); }

namespace sgmd {
namespace {

using at::Tensor;
using operators::OptionalTensor;
using Cpu = operators::OperatorsOn<operators::Cpu>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Calls an operator of the library with the signature of its implementation.
#define SGMD_CALL(name, Implementation, ...)                                                                      \
  [&] {                                                                                                           \
    static const auto handle =                                                                                    \
        c10::Dispatcher::singleton().findSchemaOrThrow("sgmd::" name, "").typed<decltype(Cpu::Implementation)>(); \
    const at::AutoDispatchBelowADInplaceOrView below_autograd;                                                    \
    return handle.call(__VA_ARGS__);                                                                              \
  }()

OptionalTensor IfDefined(const Tensor& t) { return t.defined() ? OptionalTensor(t) : std::nullopt; }
Tensor Packed(const Tensor& t) { return t.defined() ? t.contiguous() : t; }

// The graph of a backward pass would lack what a fused operation does.
void RefuseSecondDerivative() {
  if (c10::GradMode::is_enabled()) {
    throw Error("a fused kernel is not differentiable twice", {}, "Kernels::kReference is");
  }
}

// Whether a gradient is asked for of one of the inputs from `first` on.
bool Needs(const AutogradContext* context, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < first + count; ++i) {
    if (context->needs_input_grad(i)) return true;
  }
  return false;
}

struct NormNode : torch::autograd::Function<NormNode> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& scale, const Tensor& shift,
                        double eps) {
    const Tensor rows = Packed(x), factor = Packed(scale);
    const auto [n, mean, rstd] = SGMD_CALL("ada_norm", AdaNorm, rows, factor, Packed(shift), eps);
    context->save_for_backward({rows, factor, mean, rstd});
    return n;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RefuseSecondDerivative();
    const variable_list s = context->get_saved_variables();
    const bool sums = Needs(context, 1, 2);
    const auto [dx, dscale, dshift] =
        SGMD_CALL("ada_norm_backward", AdaNormBackward, Packed(gradients[0]), s[0], s[1], s[2], s[3], sums);
    if (!sums) return {dx, Tensor(), Tensor(), Tensor()};
    return {dx, dscale, dshift, Tensor()};
  }
};

struct AddNormNode : torch::autograd::Function<AddNormNode> {
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& y, const OptionalTensor& gate,
                               const Tensor& scale, const Tensor& shift, double eps) {
    const Tensor added = Packed(y), gates = gate.has_value() ? Packed(*gate) : Tensor(), factor = Packed(scale);
    const auto [sum, n, mean, rstd] =
        SGMD_CALL("add_norm", AddNorm, Packed(x), added, IfDefined(gates), factor, Packed(shift), eps);
    context->set_materialize_grads(false);
    const bool keeps_added = gate.has_value() && gate->requires_grad();
    context->save_for_backward({sum, keeps_added ? added : Tensor(), gates, factor, mean, rstd});
    return {sum, n};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RefuseSecondDerivative();
    const variable_list s = context->get_saved_variables();
    const Tensor &sum = s[0], &gate = s[2];
    const Tensor dn = gradients[1].defined() ? gradients[1] : at::zeros_like(sum);
    Tensor added = s[1];
    const bool sums = Needs(context, 2, gate.defined() ? 3 : 2);  // an input that is not there is not counted
    if (sums && gate.defined() && !added.defined()) added = sum;  // the gate's gradient is made, and not asked for
    auto [dx, dy, dgate, dscale, dshift] =
        SGMD_CALL("add_norm_backward", AddNormBackward, IfDefined(Packed(gradients[0])), Packed(dn), sum,
                  IfDefined(added), IfDefined(gate), s[3], s[4], s[5], sums);
    if (!gate.defined()) dy = dx;
    if (!sums) return {dx, dy, Tensor(), Tensor(), Tensor(), Tensor()};
    if (!gate.defined()) dgate = Tensor();
    return {dx, dy, dgate, dscale, dshift, Tensor()};
  }
};

struct AddGatedNode : torch::autograd::Function<AddGatedNode> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& y, const Tensor& gate) {
    const Tensor added = Packed(y), gates = Packed(gate);
    context->save_for_backward({gate.requires_grad() ? added : Tensor(), gates});
    return SGMD_CALL("add_gated", AddGated, Packed(x), added, gates);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RefuseSecondDerivative();
    const variable_list s = context->get_saved_variables();
    const bool sums = context->needs_input_grad(2);
    const auto [dy, dgate] =
        SGMD_CALL("add_gated_backward", AddGatedBackward, Packed(gradients[0]), IfDefined(s[0]), s[1], sums);
    return {gradients[0], dy, sums ? dgate : Tensor()};
  }
};

struct RmsRotateNode : torch::autograd::Function<RmsRotateNode> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const OptionalTensor& table,
                        double eps) {
    const Tensor rows = Packed(x), factor = Packed(weight), turns = table.has_value() ? Packed(*table) : Tensor();
    const auto [y, rrms] = SGMD_CALL("rms_rotate", RmsRotate, rows, factor, IfDefined(turns), eps);
    context->save_for_backward({rows, factor, turns, rrms});
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RefuseSecondDerivative();
    const variable_list s = context->get_saved_variables();
    const bool sums = context->needs_input_grad(1);
    const auto [dx, dweight] = SGMD_CALL("rms_rotate_backward", RmsRotateBackward, Packed(gradients[0]), s[0], s[1],
                                         IfDefined(s[2]), s[3], sums);
    return {dx, sums ? dweight : Tensor(), Tensor(), Tensor()};
  }
};

struct GeluNode : torch::autograd::Function<GeluNode> {
  static Tensor forward(AutogradContext* context, const Tensor& x) {
    const Tensor elements = Packed(x);
    context->save_for_backward({elements});
    return SGMD_CALL("gelu", Gelu, elements);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RefuseSecondDerivative();
    return {SGMD_CALL("gelu_backward", GeluBackward, Packed(gradients[0]), context->get_saved_variables()[0])};
  }
};

// Whether there is a fused kernel for tensors like x.
bool IsFused(Kernels kernels, const Tensor& x) {
  if (kernels != Kernels::kFused) return false;
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) return false;
  if (x.device().is_cpu()) return true;
  if (x.size(-1) % rows::kDeviceMultiple != 0) return false;
  static const auto any = c10::Dispatcher::singleton().findSchemaOrThrow("sgmd::ada_norm", "");
  return any.hasComputedKernelForDispatchKey(c10::computeDispatchKey(x.scalar_type(), x.layout(), x.device()));
}

void Require(const char* name, const Tensor& t, at::ScalarType dtype, at::IntArrayRef sizes) {
  if (t.defined() && t.scalar_type() == dtype && t.sizes() == sizes) return;
  if (!t.defined()) throw Error(StrCat(name, " is undefined"));
  throw Error(StrCat(name, " must be ", dtype, " ", sizes, ", not ", t.scalar_type(), " ", t.sizes()));
}

void RequireRows(const Tensor& x) {
  if (!x.defined() || x.dim() != 3) throw Error("rows must be [B, N, D]");
}

void RequirePerSample(const char* name, const Tensor& t, const Tensor& x) {
  Require(name, t, at::kFloat, {x.size(0), 1, x.size(2)});
}

}  // namespace

Tensor AdaptiveNorm(Kernels kernels, const Tensor& x, const Tensor& scale, const Tensor& shift, double eps) {
  RequireRows(x);
  if (!IsFused(kernels, x)) return reference::AdaptiveNorm(x, scale, shift, eps);
  RequirePerSample("scale", scale, x);
  RequirePerSample("shift", shift, x);
  return NormNode::apply(x, scale, shift, eps);
}

StreamAndNorm AddThenNorm(Kernels kernels, const Tensor& x, const Tensor& y, const Tensor& gate, const Tensor& scale,
                          const Tensor& shift, double eps) {
  RequireRows(x);
  if (!IsFused(kernels, x)) return reference::AddThenNorm(x, y, gate, scale, shift, eps);
  Require("y", y, x.scalar_type(), x.sizes());
  if (gate.defined()) RequirePerSample("gate", gate, x);
  if (scale.defined() && scale.dim() == 1) {
    Require("scale", scale, at::kFloat, {x.size(2)});
    Require("shift", shift, at::kFloat, {x.size(2)});
  } else {
    RequirePerSample("scale", scale, x);
    RequirePerSample("shift", shift, x);
  }
  const variable_list both = AddNormNode::apply(x, y, IfDefined(gate), scale, shift, eps);
  return {both[0], both[1]};
}

Tensor AddGated(Kernels kernels, const Tensor& x, const Tensor& y, const Tensor& gate) {
  RequireRows(x);
  if (!IsFused(kernels, x)) return reference::AddGated(x, y, gate);
  Require("y", y, x.scalar_type(), x.sizes());
  RequirePerSample("gate", gate, x);
  return AddGatedNode::apply(x, y, gate);
}

Tensor RmsNormThenRotate(Kernels kernels, const Tensor& x, const Tensor& weight, const Tensor& table, double eps) {
  RequireRows(x);
  if (!IsFused(kernels, x)) return reference::RmsNormThenRotate(x, weight, table, eps);
  const Tensor wide = weight.defined() ? Wide(weight) : weight;
  Require("weight", wide, at::kFloat, {x.size(2)});
  if (table.defined()) {
    if (table.dim() != 2 || table.size(1) == 0 || x.size(2) % (2 * table.size(1)) != 0) {
      throw Error(StrCat("a table of rotations ", table.sizes(), " does not fit rows of ", x.size(2)));
    }
    Require("table", table, at::kComplexFloat, {x.size(1), table.size(1)});
  }
  return RmsRotateNode::apply(x, wide, IfDefined(table), eps);
}

Tensor Gelu(Kernels kernels, const Tensor& x) { return IsFused(kernels, x) ? GeluNode::apply(x) : reference::Gelu(x); }

}  // namespace sgmd
