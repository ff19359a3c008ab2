#include "pipeline/models/checkpointing.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "pipeline/models/attention.h"

namespace sgmd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A capsule, because that is how a context of autograd carries what is not a tensor.
struct Call : torch::CustomClassHolder {
  std::function<at::Tensor(const std::vector<at::Tensor>&)> run;
  std::size_t inputs = 0;  // the first of the tensors; the others are parameters
  mutable KeptAttention attention;
  bool keep_attention = false;

  at::Tensor Run(const std::vector<at::Tensor>& given) const {
    if (!keep_attention) return run(given);
    const KeepingAttention keeping(attention);
    return run(given);
  }
};

struct CheckpointNode : torch::autograd::Function<CheckpointNode> {
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Call>& call, at::TensorList tensors) {
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->save_for_backward(tensors.vec());
    return call->Run(tensors.slice(0, call->inputs).vec());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto capsule = context->saved_data["call"].toCapsule();
    const Call& call = static_cast<const Call&>(*capsule);
    variable_list tensors = context->get_saved_variables(), wanted;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const bool needed = context->needs_input_grad(i);
      if (i < call.inputs) tensors[i] = tensors[i].detach().requires_grad_(needed);  // a graph of its own
      if (needed) wanted.push_back(tensors[i]);
    }
    variable_list found;
    {
      c10::AutoGradMode with_graph(true);
      const at::Tensor y = call.Run(at::TensorList(tensors).slice(0, call.inputs).vec());
      found =
          torch::autograd::grad({y}, wanted, gradients, std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
    }
    variable_list result(1);  // of the call: none
    for (std::size_t i = 0, next = 0; i < tensors.size(); ++i) {
      result.push_back(context->needs_input_grad(i) ? found[next++] : at::Tensor());
    }
    return result;
  }
};

}  // namespace

at::Tensor Checkpoint(std::function<at::Tensor(const std::vector<at::Tensor>& inputs)> run,
                      const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters,
                      bool keep_attention) {
  variable_list tensors = inputs;
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  const bool recorded =
      c10::GradMode::is_enabled() &&
      std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& t) { return t.requires_grad(); });
  if (!recorded) return run(inputs);
  const auto call = c10::make_intrusive<Call>();
  call->run = std::move(run);
  call->inputs = inputs.size();
  call->keep_attention = keep_attention;
  return CheckpointNode::apply(call, at::TensorList(tensors));  // a list, or autograd does not see the tensors
}

}  // namespace sgmd
