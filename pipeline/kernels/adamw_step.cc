#include "pipeline/kernels/adamw_step.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <initializer_list>
#include <optional>

#include "common/error/error.h"
#include "pipeline/kernels/operators.h"
#include "pipeline/kernels/row_kernels.h"

namespace sgmd {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor IfDefined(const at::Tensor& t) { return t.defined() ? OptionalTensor(t) : std::nullopt; }

const c10::OperatorHandle& Operator() {
  static const c10::OperatorHandle handle = c10::Dispatcher::singleton().findSchemaOrThrow("sgmd::adamw_", "");
  return handle;
}

}  // namespace

bool HasAdamWKernel(Kernels kernels, const AdamWTensors& tensors) {
  if (kernels != Kernels::kFused) return false;
  const at::Tensor& p = tensors.parameter;
  if (!p.is_cpu() && p.numel() % rows::kDeviceMultiple != 0) return false;
  for (const at::Tensor& t : {p, tensors.gradient, tensors.second, tensors.first, tensors.average}) {
    if (!t.defined()) continue;
    if (t.scalar_type() != at::kFloat || !t.is_contiguous() || t.sizes() != p.sizes()) return false;
    if (t.device() != p.device()) return false;
  }
  return Operator().hasComputedKernelForDispatchKey(c10::computeDispatchKey(at::kFloat, p.layout(), p.device()));
}

void AdamWStep(const AdamWTensors& t, const AdamWNumbers& n) {
  if (!t.parameter.defined() || !t.gradient.defined() || !t.second.defined() || !HasAdamWKernel(Kernels::kFused, t))
    throw Error("a kernel of AdamW takes contiguous float32 tensors of one shape on one device that has the kernel");
  static const auto call = Operator().typed<decltype(operators::OperatorsOn<operators::Cpu>::AdamW)>();
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  call.call(t.parameter, t.gradient, t.second, IfDefined(t.first), IfDefined(t.average), n.clip, n.beta1, n.beta2,
            n.correction2, n.epsilon, n.keep, n.step_size, n.average_weight);
  // A graph that holds the old value must find that it is gone, as after an operation of ATen in place.
  for (const at::Tensor& changed : {t.parameter, t.second, t.first, t.average}) {
    if (changed.defined()) changed.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace sgmd
