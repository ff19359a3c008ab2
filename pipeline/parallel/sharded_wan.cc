#include "pipeline/parallel/sharded_wan.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace sgmd {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct ShardedWanParts {
  ShardedWanParts(const WanConfig& c, WanDTypes d, const std::vector<ShardedTensor>& tensors, Collectives& group,
                  at::Device device)
      : config(c), dtypes(d), parameters(tensors, group, device) {}

  WanConfig config;
  WanDTypes dtypes;
  ShardedParameters parameters;
  RopeTables ropes;
};

namespace {

constexpr std::size_t kBlockInputs = 4;

ParameterSource From(const ShardedParameters::Views& views) {
  return [&views](const std::string& name, at::IntArrayRef) { return views.at(name); };
}

// What an order of the graph belongs to: a capsule, because that is how a context of autograd carries what is no
// tensor.
struct UnitCall : torch::CustomClassHolder {
  std::shared_ptr<ShardedWanParts> parts;
  std::int64_t number = -1;  // of the block; -1: what is outside of them
  at::Tensor rope;

  std::string Unit() const { return number < 0 ? "" : BlockPrefix(number); }
  at::Tensor Run(const ShardedParameters::Views& views, const variable_list& inputs) const {
    return RunBlock(parts->config, BlockFrom(parts->config, number, From(views)),
                    {inputs[0], inputs[1], inputs[2], inputs[3]}, rope);
  }
};

const UnitCall& CallOf(AutogradContext* context) {
  return static_cast<const UnitCall&>(*context->saved_data["call"].toCapsule());
}

// Inputs: those of a block, then the trained shards of its unit, which are there to be asked whether they need
// gradients: theirs are added to them by Exchange.
struct BlockNode : torch::autograd::Function<BlockNode> {
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<UnitCall>& call,
                            at::TensorList tensors) {
    const variable_list inputs = tensors.slice(0, kBlockInputs).vec();
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->saved_data["shards"] = static_cast<std::int64_t>(tensors.size() - kBlockInputs);
    context->save_for_backward(inputs);
    return call->Run(call->parts->parameters.Gather(call->Unit()), inputs);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& call = CallOf(context);
    const std::size_t shards = static_cast<std::size_t>(context->saved_data["shards"].toInt());
    const bool trains = shards > 0 && context->needs_input_grad(kBlockInputs);
    variable_list inputs = context->get_saved_variables(), wanted;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = inputs[i].detach().requires_grad_(context->needs_input_grad(i));  // a graph of its own
      if (context->needs_input_grad(i)) wanted.push_back(inputs[i]);
    }
    const std::size_t needed = wanted.size();
    ShardedParameters::Views leaves = call.parts->parameters.Gather(call.Unit());
    if (trains) {
      for (auto& [name, tensor] : leaves) wanted.push_back(tensor = tensor.detach().requires_grad_());
    }
    variable_list found;
    {
      const c10::AutoGradMode with_graph(true);
      found = torch::autograd::grad({call.Run(leaves, inputs)}, wanted, gradients, std::nullopt,
                                    /*create_graph=*/false, /*allow_unused=*/true);
    }
    if (trains) {
      for (std::size_t next = needed; auto& [name, tensor] : leaves) tensor = found[next++];
      call.parts->parameters.Exchange(call.Unit(), leaves);
    }
    variable_list result(1);  // of the call: none
    for (std::size_t i = 0, next = 0; i < inputs.size(); ++i)
      result.push_back(context->needs_input_grad(i) ? found[next++] : at::Tensor());
    result.resize(1 + kBlockInputs + shards);
    return result;
  }
};

// What is outside of the blocks, gathered for one pass, in the order of the names. Its backward runs once, last of all.
struct RootNode : torch::autograd::Function<RootNode> {
  static variable_list forward(AutogradContext* context, const c10::intrusive_ptr<UnitCall>& call,
                               at::TensorList shards) {
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->saved_data["shards"] = static_cast<std::int64_t>(shards.size());
    context->set_materialize_grads(false);
    variable_list gathered;
    for (const auto& [name, tensor] : call->parts->parameters.Gather(call->Unit())) gathered.push_back(tensor);
    return gathered;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& call = CallOf(context);
    ShardedParameters::Views by_name;
    std::size_t next = 0;
    for (const std::string& name : call.parts->parameters.NamesOf(call.Unit())) by_name[name] = gradients[next++];
    call.parts->parameters.Exchange(call.Unit(), by_name);
    return variable_list(1 + static_cast<std::size_t>(context->saved_data["shards"].toInt()));
  }
};

bool NeedGradients(const std::vector<at::Tensor>& tensors) {
  return c10::GradMode::is_enabled() && std::ranges::any_of(tensors, [](const auto& t) { return t.requires_grad(); });
}

c10::intrusive_ptr<UnitCall> CallFor(const std::shared_ptr<ShardedWanParts>& parts, std::int64_t number,
                                     const at::Tensor& rope) {
  auto call = c10::make_intrusive<UnitCall>();
  call->parts = parts;
  call->number = number;
  call->rope = rope;
  return call;
}

ShardedParameters::Views Root(const std::shared_ptr<ShardedWanParts>& parts) {
  const std::vector<at::Tensor> shards = parts->parameters.TrainedOf("");
  if (!NeedGradients(shards)) return parts->parameters.Gather("");
  const variable_list gathered = RootNode::apply(CallFor(parts, -1, {}), at::TensorList(shards));
  ShardedParameters::Views views;
  std::size_t next = 0;
  for (const std::string& name : parts->parameters.NamesOf("")) views[name] = gathered[next++];
  return views;
}

at::Tensor Block(const std::shared_ptr<ShardedWanParts>& parts, std::int64_t number, const WanBlockInputs& in,
                 const at::Tensor& rope) {
  const auto call = CallFor(parts, number, rope);
  variable_list tensors{in.x, in.e0, in.text_value, in.text_key};
  const variable_list inputs = tensors;
  const std::vector<at::Tensor> shards = parts->parameters.TrainedOf(call->Unit());
  tensors.insert(tensors.end(), shards.begin(), shards.end());
  if (!NeedGradients(tensors)) return call->Run(parts->parameters.Gather(call->Unit()), inputs);
  return BlockNode::apply(call, at::TensorList(tensors));
}

// The model's tensors, as they are used.
std::vector<ShardedTensor> TensorsOf(const WanConfig& config, WanDTypes dtypes) {
  std::vector<ShardedTensor> tensors;
  const WanTransformer shapes(config, at::kMeta);
  for (const auto& [name, tensor] : shapes.parameters())
    tensors.push_back({name, tensor.sizes().vec(), IsUsedWide(name) ? dtypes.wide : dtypes.compute, true});
  return tensors;
}

}  // namespace

bool IsUsedWide(std::string_view name) {
  return IsFloat32Island(name) || name.ends_with("norm_q.weight") || name.ends_with("norm_k.weight");
}

ShardedWan::ShardedWan(const WanConfig& config, WanDTypes dtypes, Collectives& group, at::Device device)
    : parts_(std::make_shared<ShardedWanParts>(config, dtypes, TensorsOf(config, dtypes), group, device)) {}

ShardedWan::~ShardedWan() = default;

const WanConfig& ShardedWan::config() const { return parts_->config; }
ShardedParameters& ShardedWan::parameters() { return parts_->parameters; }

at::Tensor ShardedWan::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  const ShardedParameters::Views root = Root(parts_);
  const BlockRunner run = [&](std::int64_t number, const WanBlockInputs& inputs, const at::Tensor& rope) {
    return Block(parts_, number, inputs, rope);
  };
  return WanForward(parts_->config, parts_->dtypes, StemFrom(parts_->config, From(root)),
                    HeadFrom(parts_->config, From(root)), run, parts_->ropes, x, sigma, condition);
}

}  // namespace sgmd
