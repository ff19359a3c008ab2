#include "pipeline/objectives/shared_pass.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace sgmd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// In the graph of an objective it stands for the network: backwards it goes through the graph of the pass to the input.
struct PassNode : torch::autograd::Function<PassNode> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor&, const at::Tensor& input,
                            const at::Tensor& velocity) {
    context->saved_data["input"] = input;
    context->saved_data["velocity"] = velocity;
    return velocity.detach();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor input = context->saved_data["input"].toTensor(),
                     velocity = context->saved_data["velocity"].toTensor();
    return {torch::autograd::grad({velocity}, {input}, gradients, /*retain_graph=*/true)[0], {}, {}};
  }
};

}  // namespace

at::Tensor SharedPass::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  at::Tensor input;
  {
    c10::AutoGradMode with_graph(true);
    input = x.detach().requires_grad_(true);
    velocity_ = model_.Forward(input, sigma, condition);
  }
  return PassNode::apply(x, input, velocity_);
}

}  // namespace sgmd
