#include "pipeline/parallel/sharded_wan.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "common/error/error.h"
#include "pipeline/models/attention.h"
#include "pipeline/models/wan_files.h"
#include "pipeline/parallel/sequence_share.h"

namespace sgmd {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct ShardedWanParts {
  ShardedWanParts(const WanConfig& c, const ShardedWanForm& form, const std::vector<ShardedTensor>& tensors,
                  Collectives& group, at::Device device)
      : config(c),
        arithmetic{form.precision.compute, at::kFloat, form.precision.kernels},
        lora(form.lora),
        recompute(form.recompute),
        parameters(tensors, group, device),
        share(form.sequence == nullptr ? nullptr : ShareTokens(*form.sequence)) {}

  WanConfig config;
  WanArithmetic arithmetic;
  LoraConfig lora;
  Recomputation recompute;
  ShardedParameters parameters;
  std::unique_ptr<TokenShare> share;  // null where each rank has all tokens of a sample
  RopeTables ropes;
};

namespace {

ParameterSource From(const ShardedParameters::Views& views) {
  return [&views](const std::string& name, at::IntArrayRef) { return views.at(name); };
}

// A run of a block with a graph of its own, from leaves that its backward pass gives gradients of.
struct RecordedRun {
  variable_list inputs;
  ShardedParameters::Views trained;
  at::Tensor output;
};

// What an order of the graph belongs to: a capsule, because that is how a context of autograd carries what is no
// tensor.
struct UnitCall : torch::CustomClassHolder {
  std::shared_ptr<ShardedWanParts> parts;
  std::int64_t number = -1;  // of the block; -1: what is outside of them
  at::Tensor rope;
  std::size_t inputs = 0;  // of the block: the first of the tensors of its node
  std::int64_t held = 0;   // WanBlockInputs::held
  bool again = true;       // the backward pass runs the block again
  mutable KeptAttention attention;
  mutable std::optional<RecordedRun> kept;  // of a block that is not run again, from its forward to its backward pass

  std::string Unit() const { return number < 0 ? "" : BlockPrefix(number); }
  // `keeps_attention`: in the first or the second of two runs of the block.
  at::Tensor Run(const ShardedParameters::Views& views, const variable_list& inputs, bool keeps_attention) const {
    WanBlock block = BlockFrom(parts->config, number, From(views));
    if (parts->lora.rank > 0) Adapt(block, views);
    std::optional<KeepingAttention> keeping;
    if (parts->recompute.keep_attention && keeps_attention) keeping.emplace(attention);
    return RunBlock(parts->config, block, WanBlockInputs::Of(inputs, held), rope, parts->arithmetic.kernels,
                    parts->share.get());
  }
  // `needed`: which inputs need gradients; `trains`: whether the parameters that are trained do.
  RecordedRun Record(variable_list from, const std::vector<bool>& needed, bool trains) const {
    RecordedRun run{std::move(from), {}, {}};
    for (std::size_t i = 0; i < run.inputs.size(); ++i)
      run.inputs[i] = run.inputs[i].detach().requires_grad_(needed[i]);
    ShardedParameters::Views views = parts->parameters.Gather(Unit());
    for (auto& [name, tensor] : views) {
      if (!trains || !parts->parameters.IsTrained(name)) continue;
      run.trained.emplace(name, tensor = tensor.detach().requires_grad_());
    }
    const c10::AutoGradMode with_graph(true);
    run.output = Run(views, run.inputs, /*keeps_attention=*/again);
    return run;
  }
  void Adapt(WanBlock& block, const ShardedParameters::Views& views) const {
    for (const auto& [name, linear] : block.Linears()) {
      if (!parts->lora.Adapts(name)) continue;
      linear->lora_down = views.at(Unit() + name + kLoraDown);
      linear->lora_up = views.at(Unit() + name + kLoraUp);
      linear->lora_scale = parts->lora.Scale();
    }
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
    const variable_list inputs = tensors.slice(0, call->inputs).vec();
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->saved_data["shards"] = static_cast<std::int64_t>(tensors.size() - call->inputs);
    context->save_for_backward(inputs);
    if (call->again) return call->Run(call->parts->parameters.Gather(call->Unit()), inputs, /*keeps_attention=*/true);
    std::vector<bool> needed;
    for (const at::Tensor& input : inputs) needed.push_back(input.requires_grad());
    const bool trains = tensors.size() > call->inputs && tensors[call->inputs].requires_grad();
    call->kept = call->Record(inputs, needed, trains);
    return call->kept->output.variable_data();  // not the output itself, whose graph is that of the run
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& call = CallOf(context);
    const std::size_t shards = static_cast<std::size_t>(context->saved_data["shards"].toInt());
    const bool trains = shards > 0 && context->needs_input_grad(call.inputs);
    const variable_list inputs = context->get_saved_variables();
    std::vector<bool> needed;
    for (std::size_t i = 0; i < inputs.size(); ++i) needed.push_back(context->needs_input_grad(i));
    // A graph that is gone through once more (pipeline/objectives/shared_pass.h) has all of its runs still.
    const bool once_more = torch::autograd::get_current_graph_task_keep_graph();
    RecordedRun run = call.again ? call.Record(inputs, needed, trains) : once_more ? *call.kept : *std::move(call.kept);
    if (!once_more) call.kept.reset();
    variable_list wanted;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (needed[i]) wanted.push_back(run.inputs[i]);
    }
    const std::size_t of_inputs = wanted.size();
    if (trains) {
      for (const auto& [name, tensor] : run.trained) wanted.push_back(tensor);
    }
    const variable_list found =
        torch::autograd::grad({run.output}, wanted, gradients, /*retain_graph=*/once_more && !call.again,
                              /*create_graph=*/false, /*allow_unused=*/true);
    ShardedParameters::Views trained = std::move(run.trained);
    run = {};
    if (trains) {
      for (std::size_t next = of_inputs; auto& [name, tensor] : trained) tensor = found[next++];
      call.parts->parameters.Exchange(call.Unit(), trained);
    }
    variable_list result(1);  // of the call: none
    for (std::size_t i = 0, next = 0; i < inputs.size(); ++i)
      result.push_back(needed[i] ? found[next++] : at::Tensor());
    result.resize(1 + call.inputs + shards);
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
  variable_list tensors = in.List();
  const variable_list inputs = tensors;
  call->inputs = inputs.size();
  call->held = in.held;
  const std::vector<at::Tensor> shards = parts->parameters.TrainedOf(call->Unit());
  tensors.insert(tensors.end(), shards.begin(), shards.end());
  if (!NeedGradients(tensors))
    return call->Run(parts->parameters.Gather(call->Unit()), inputs, /*keeps_attention=*/false);
  call->again = parts->recompute.OfBlock(number, parts->config.num_layers);
  return BlockNode::apply(call, at::TensorList(tensors));
}

// A parameter that is used in float32 at least, also where others are used in bfloat16: the float32 islands, and the
// weights of q and k norms.
bool IsUsedWide(std::string_view name) {
  return IsFloat32Island(name) || name.ends_with("norm_q.weight") || name.ends_with("norm_k.weight") ||
         name.ends_with("norm_k_img.weight");
}

// What a trained tensor is gathered in, and its gradient exchanged.
at::ScalarType UsedIn(std::string_view name, WanPrecision precision) {
  return IsUsedWide(name) ? at::kFloat : precision.compute;
}

// A model of these tensors' names and shapes, without their values.
WanTransformer ShapesOf(const WanConfig& config, const ShardedWanForm& form) {
  WanTransformer shapes(config, at::kMeta);
  return form.lora.rank > 0 ? shapes.WithAdapters(form.lora, 0) : std::move(shapes);
}

// What is frozen is gathered as it is kept, which rounds what WanTransformer rounds.
std::vector<ShardedTensor> TensorsOf(const WanConfig& config, const ShardedWanForm& form) {
  std::vector<ShardedTensor> tensors;
  const WanTransformer shapes = ShapesOf(config, form);
  const bool frozen_base = !form.trained || form.lora.rank > 0;
  const auto kept_in = [&](const std::string& name) {
    return IsFloat32Island(name) ? at::kFloat : form.precision.storage;
  };
  for (const auto& [name, tensor] : shapes.parameters())
    tensors.push_back(
        {name, tensor.sizes().vec(), frozen_base ? kept_in(name) : UsedIn(name, form.precision), !frozen_base});
  for (const auto& [name, tensor] : shapes.adapters())
    tensors.push_back({name, tensor.sizes().vec(), UsedIn(name, form.precision), true});
  return tensors;
}

}  // namespace

ShardedWan::ShardedWan(const WanConfig& config, const ShardedWanForm& form, Collectives& group, at::Device device)
    : parts_(std::make_shared<ShardedWanParts>(config, form, TensorsOf(config, form), group, device)) {}

ShardedWan::~ShardedWan() = default;
ShardedWan::ShardedWan(ShardedWan&&) noexcept = default;

ShardedWan ShardedWan::Load(const std::filesystem::path& path, const ShardedWanForm& form, std::uint64_t seed,
                            Collectives& group, at::Device device) {
  const WanWeights weights = WanWeights::Open(path);
  ShardedWan model(weights.config(), form, group, device);
  weights.ForEach([&](const std::string& name, const at::Tensor& mapped) { model.parameters().Set(name, mapped); });
  if (form.lora.rank == 0) return model;
  NamedTensors adapters;
  const WanTransformer shapes = ShapesOf(weights.config(), form);
  for (const auto& [name, tensor] : shapes.adapters()) adapters.emplace_back(name, at::empty(tensor.sizes()));
  DrawAdapters(adapters, seed);
  for (const auto& [name, tensor] : adapters) model.parameters().Set(name, tensor);
  return model;
}

const WanConfig& ShardedWan::config() const { return parts_->config; }
ShardedParameters& ShardedWan::parameters() { return parts_->parameters; }
const ShardedParameters& ShardedWan::parameters() const { return parts_->parameters; }

at::Tensor ShardedWan::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  const ShardedParameters::Views root = Root(parts_);
  const BlockRunner run = [&](std::int64_t number, const WanBlockInputs& inputs, const at::Tensor& rope) {
    return Block(parts_, number, inputs, rope);
  };
  return WanForward(parts_->config, parts_->arithmetic, StemFrom(parts_->config, From(root)),
                    HeadFrom(parts_->config, From(root)), run, parts_->ropes, x, sigma, condition, parts_->share.get());
}

void ShardedWan::SkipForward() const {
  parts_->parameters.Gather("");
  for (std::int64_t number = 0; number < parts_->config.num_layers; ++number)
    parts_->parameters.Gather(BlockPrefix(number));
}

std::vector<ShardUnit> LayOutTrained(const NamedTensors& trained, WanPrecision precision) {
  std::vector<LaidOut> tensors;
  for (const auto& [name, tensor] : trained)
    tensors.push_back({name, tensor.sizes().vec(), c10::toString(UsedIn(name, precision))});
  return LayOut(tensors);
}

}  // namespace sgmd
