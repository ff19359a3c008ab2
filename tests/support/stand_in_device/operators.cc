// Operators of the stand-in device: a few of its own, the CPU's kernels behind all others.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <set>

#include "tests/support/stand_in_device/memory.h"
#include "tests/support/stand_in_device/meter.h"

namespace sgmd::stand_in {
namespace {

using c10::Device;
using c10::DeviceType;

at::Tensor EmptyStrided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                        std::optional<at::Layout>, std::optional<Device> device, std::optional<bool> pinned) {
  TORCH_CHECK(!pinned.value_or(false), "only dense CPU tensors can be pinned");
  return Empty(size, stride, type.value_or(at::kFloat), device.value_or(DeviceType::CUDA));
}

at::Tensor EmptyOfFormat(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                         std::optional<Device> device, std::optional<bool> pinned,
                         std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!pinned.value_or(false), "only dense CPU tensors can be pinned");
  return EmptyContiguous(size, type.value_or(at::kFloat), device.value_or(DeviceType::CUDA), format);
}

const at::Tensor& ResizeInPlace(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  Resize(self, size);
  return self;
}

at::Tensor& Copy(at::Tensor& self, const at::Tensor& from, bool) {
  const c10::impl::ExcludeDispatchKeyGuard below(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  if (!from.is_cuda()) {
    Meter::Get().ToDevice();
  } else if (!self.is_cuda()) {
    Meter::Get().ToHost(self.numel() > 0 && IsPinned(self.storage().data()));
  } else {
    Meter::Get().Kernel(self.scalar_type() == from.scalar_type() ? "aten::copy_" : "aten::copy_ (cast)", BytesOf(from),
                        BytesOf(self));
  }
  at::Tensor host = OnHost(self);
  if (self.numel() > 0) host.copy_(OnHost(from));
  return self;
}

at::Tensor View(const at::Tensor& self, at::IntArrayRef size) { return at::native::view(self, size); }

// Operators whose CUDA kernels take tensors of the CPU beside their own.
bool TakesHostTensors(const std::string& name) {
  return name.starts_with("aten::index.Tensor") || name.starts_with("aten::index_put") ||
         name.starts_with("aten::_index_put");
}

// Operators whose CUDA kernels refuse to run where determinism is asked for (LibTorch's own list, as far as a model
// could come near it).
void RequireDeterministic(const std::string& name) {
  static const std::set<std::string> refused{"aten::cumsum",
                                             "aten::kthvalue",
                                             "aten::median",
                                             "aten::put_",
                                             "aten::histc",
                                             "aten::bincount",
                                             "aten::scatter_reduce",
                                             "aten::grid_sampler_2d_backward",
                                             "aten::avg_pool3d_backward",
                                             "aten::max_pool3d_with_indices_backward"};
  const bool listed = refused.contains(name.substr(0, name.find('.'))) ||
                      ((name.starts_with("aten::upsample_") || name.starts_with("aten::reflection_pad") ||
                        name.starts_with("aten::replication_pad") || name.starts_with("aten::adaptive_")) &&
                       name.find("backward") != std::string::npos);
  TORCH_CHECK(!listed || !at::globalContext().deterministicAlgorithms(), name,
              " does not have a deterministic implementation");
}

bool IsHostRead(const std::string& name) {
  return name == "aten::_local_scalar_dense" || name == "aten::equal" || name == "aten::nonzero";
}

// One call of an operator, carried over to the CPU and back.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op),
        schema_(op.schema()),
        name_(op.operator_name().name +
              (op.operator_name().overload_name.empty() ? "" : "." + op.operator_name().overload_name)),
        given_(stack.end() - static_cast<std::ptrdiff_t>(schema_.arguments().size()), stack.end()),
        hosts_(given_.size()) {
    torch::jit::drop(stack, given_.size());
  }

  void Run(torch::jit::Stack& stack) {
    RequireDeterministic(name_);
    RequireOneDevice();
    PushHostArguments(stack);
    try {
      op_.callBoxed(stack);
    } catch (c10::Error& error) {
      error.add_context("in the stand-in's " + name_);
      throw;
    }
    CopyBack();
    PushResults(stack);
    Meter::Get().Kernel(name_, read_, written_);
    if (IsHostRead(name_)) Meter::Get().HostRead();
  }

 private:
  bool Written(std::size_t i) const {
    const auto* alias = schema_.arguments()[i].alias_info();
    return alias != nullptr && alias->isWrite();
  }

  template <typename Visit>
  void EachTensor(Visit visit) const {
    for (std::size_t i = 0; i < given_.size(); ++i) {
      if (given_[i].isTensor()) visit(given_[i].toTensor(), i);
      if (given_[i].isTensorList()) {
        for (const at::Tensor& t : given_[i].toTensorVector()) visit(t, i);
      } else if (given_[i].isOptionalTensorList()) {
        for (const std::optional<at::Tensor>& t : given_[i].toOptionalTensorVector()) {
          if (t) visit(*t, i);
        }
      }
    }
  }

  // As CUDA kernels do: tensors of one device, and numbers of the CPU in tensors without axes.
  void RequireOneDevice() {
    const auto refuse = [&](const at::Tensor& t, std::size_t i) {
      TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, ", *device_,
                  " and ", t.device(), "! (", name_, ", argument ", schema_.arguments()[i].name(), ")");
    };
    EachTensor([&](const at::Tensor& t, std::size_t i) {
      if (!t.defined()) return;
      if (t.is_cuda()) {
        if (device_ && *device_ != t.device()) refuse(t, i);
        device_ = t.device();
      }
      if (Written(i)) written_ += BytesOf(t);
      if (!Written(i) || !schema_.arguments()[i].is_out()) read_ += BytesOf(t);
    });
    EachTensor([&](const at::Tensor& t, std::size_t i) {
      if (t.defined() && !t.is_cuda() && device_ && t.dim() > 0 && !TakesHostTensors(name_)) refuse(t, i);
    });
  }

  void PushHostArguments(torch::jit::Stack& stack) {
    for (std::size_t i = 0; i < given_.size(); ++i) {
      if (given_[i].isTensor()) {
        const at::Tensor& t = given_[i].toTensor();
        const bool fresh = schema_.arguments()[i].is_out() && t.is_cuda();  // some kernels resize on the way
        hosts_[i] = fresh ? at::empty({0}, t.options().device(at::kCPU)) : OnHost(t);
        stack.emplace_back(hosts_[i]);
      } else if (given_[i].isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor& t : given_[i].toTensorVector()) list.push_back(OnHost(t));
        stack.emplace_back(std::move(list));
      } else if (given_[i].isOptionalTensorList()) {
        c10::List<std::optional<at::Tensor>> list;
        for (const std::optional<at::Tensor>& t : given_[i].toOptionalTensorVector())
          list.push_back(t ? std::optional(OnHost(*t)) : t);
        stack.emplace_back(std::move(list));
      } else if (given_[i].isDevice() && given_[i].toDevice().is_cuda()) {
        device_ = given_[i].toDevice();
        stack.emplace_back(Device(DeviceType::CPU));
      } else {
        stack.push_back(given_[i]);
      }
    }
  }

  // What the kernel has written to other memory than the argument's.
  void CopyBack() const {
    for (std::size_t i = 0; i < given_.size(); ++i) {
      if (!given_[i].isTensor() || !Written(i)) continue;
      const at::Tensor& t = given_[i].toTensor();
      if (!t.is_cuda() || (!schema_.arguments()[i].is_out() && t.sizes() == hosts_[i].sizes())) continue;
      if (t.sizes() != hosts_[i].sizes()) Resize(t, hosts_[i].sizes());
      if (t.numel() > 0) OnHost(t).copy_(hosts_[i]);
    }
  }

  c10::IValue OnDevice(const at::Tensor& host) {
    const at::Tensor t = Upload(host, device_.value_or(Device(DeviceType::CUDA, CurrentDevice())));
    written_ += BytesOf(t);
    return t;
  }

  void PushResults(torch::jit::Stack& stack) {
    const auto& returns = schema_.returns();
    std::vector<c10::IValue> results(stack.end() - static_cast<std::ptrdiff_t>(returns.size()), stack.end());
    torch::jit::drop(stack, returns.size());
    for (std::size_t r = 0; r < returns.size(); ++r) {
      const auto* alias = returns[r].alias_info();
      if (alias != nullptr) {  // an argument that was written
        TORCH_CHECK(alias->isWrite(), "the stand-in has no view ", name_);
        for (std::size_t i = 0; i < given_.size(); ++i) {
          const auto* of = schema_.arguments()[i].alias_info();
          if (of != nullptr && *of == *alias) results[r] = given_[i];
        }
      } else if (results[r].isTensor()) {
        results[r] = OnDevice(results[r].toTensor());
      } else if (results[r].isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor& t : results[r].toTensorVector()) list.push_back(OnDevice(t).toTensor());
        results[r] = std::move(list);
      }
      stack.push_back(results[r]);
    }
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  const std::string name_;
  const std::vector<c10::IValue> given_;
  std::vector<at::Tensor> hosts_;  // of the arguments that are single tensors
  std::optional<Device> device_;
  std::int64_t read_ = 0, written_ = 0;
};

void OnTheCpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  Call(op, *stack).Run(*stack);
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&OnTheCpu>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", EmptyOfFormat);
  m.impl("empty_strided", EmptyStrided);
  m.impl("resize_", ResizeInPlace);
  m.impl("copy_", Copy);
  m.impl("view", View);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  // Kernels of their own on the GPU, compositions of others elsewhere.
  for (const char* name :
       {"native_layer_norm", "native_layer_norm_backward", "_foreach_mul_.Scalar", "_foreach_add_.Scalar",
        "_foreach_add_.List", "_foreach_addcmul_.Scalar", "_foreach_addcdiv_.Scalar", "_foreach_lerp_.Scalar",
        "_foreach_sqrt_", "_foreach_div.Scalar", "_foreach_norm.Scalar", "zero_"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&OnTheCpu>());
  }
}

}  // namespace
}  // namespace sgmd::stand_in
