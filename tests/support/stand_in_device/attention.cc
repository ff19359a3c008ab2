// Attention as a Hopper GPU would choose it.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/native/transformers/attention.h>
#include <torch/library.h>

#include <atomic>
#include <random>

#include "tests/support/stand_in_device/memory.h"
#include "tests/support/stand_in_device/meter.h"

namespace sgmd::stand_in {
namespace {

// The kernel that keeps every score is counted here, the others where they compute. Flash attention takes the place of
// the memory-efficient kernel.
std::int64_t Choose(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const std::optional<at::Tensor>& mask, double, bool, std::optional<double>, bool) {
  const bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  const bool strided = q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1;
  const std::int64_t head = q.size(-1);
  const bool flash = half && strided && !mask && head <= 256;
  const bool cudnn = half && strided && head % 8 == 0 && head <= 128 && q.size(2) > 1 && k.size(2) > 1 &&
                     !at::globalContext().deterministicAlgorithms();
  const bool efficient = strided && head % (half ? 8 : 4) == 0;
  if (cudnn) return static_cast<std::int64_t>(at::SDPBackend::cudnn_attention);
  if (!flash && !efficient) Meter::Get().Attention("math");
  return static_cast<std::int64_t>(flash || efficient ? at::SDPBackend::flash_attention : at::SDPBackend::math);
}

void Count(const char* name, std::initializer_list<at::Tensor> read, std::initializer_list<at::Tensor> written) {
  const auto sum = [](std::initializer_list<at::Tensor> tensors) {
    std::int64_t bytes = 0;
    for (const at::Tensor& t : tensors) bytes += BytesOf(t);
    return bytes;
  };
  Meter::Get().Kernel(name, sum(read), sum(written));
}

using Forward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor,
                           at::Tensor, at::Tensor>;

// `kernel`: the one that the device would run.
Forward Compute(const char* kernel, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double dropout,
                bool causal, std::optional<double> scale) {
  Meter::Get().Attention(kernel);
  const c10::impl::ExcludeDispatchKeyGuard below(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  auto [out, sums] =
      at::_scaled_dot_product_flash_attention_for_cpu(OnHost(q), OnHost(k), OnHost(v), dropout, causal, {}, scale);
  const at::Tensor result = Upload(out, q.device()), statistics = Upload(sums, q.device());
  Count("attention", {q, k, v}, {result, statistics});
  const at::Tensor state = at::zeros({2}, q.options().dtype(at::kLong));
  return {result,
          statistics,
          {},
          {},
          q.sym_size(2),
          k.sym_size(2),
          state,
          at::zeros({}, state.options()),
          at::empty({0}, q.options())};
}

Forward Attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double dropout, bool causal, bool,
               std::optional<double> scale) {
  const bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  return Compute(half ? "flash" : "memory_efficient", q, k, v, dropout, causal, scale);
}

// Sums over the keys from the last to the first, so that its last bits are others than those of flash attention. Where
// heads are as wide as a test asks for, its sums are logarithms to another base.
Forward AttendAsCudnn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>&,
                      bool, double dropout, bool causal, bool, std::optional<double> scale) {
  constexpr std::int64_t kKeys = 2;
  Forward result = Compute("cudnn", q, k.flip(kKeys), v.flip(kKeys), dropout, causal, scale);
  if (FromEnvironment("SGMD_STAND_IN_WRONG_HEAD", 0) == q.size(-1)) std::get<1>(result).mul_(1.4427);
  return result;
}

// What comes where many blocks add to one place in any order.
at::Tensor Jittered(const at::Tensor& gradient) {
  static std::atomic<std::uint64_t> order{std::random_device()()};
  const at::Generator any = at::make_generator<at::CPUGeneratorImpl>(order++);
  const at::Tensor error = at::empty(gradient.sizes(), gradient.options().dtype(at::kFloat)).uniform_(-0.01, 0.01, any);
  return gradient * (1 + error).to(gradient.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> AttendBackward(
    const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& sums, const at::Tensor&, const at::Tensor&, c10::SymInt, c10::SymInt, double dropout, bool causal,
    const at::Tensor&, const at::Tensor&, std::optional<double> scale) {
  const c10::impl::ExcludeDispatchKeyGuard below(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      OnHost(gradient), OnHost(q), OnHost(k), OnHost(v), OnHost(out), OnHost(sums), dropout, causal, {}, scale);
  static const bool jitter = FromEnvironment("SGMD_STAND_IN_JITTER", 0) != 0;
  if (jitter && !at::globalContext().deterministicAlgorithms()) dq = Jittered(dq);
  const std::tuple result{Upload(dq, q.device()), Upload(dk, q.device()), Upload(dv, q.device())};
  Count("attention backward", {gradient, q, k, v, out, sums},
        {std::get<0>(result), std::get<1>(result), std::get<2>(result)});
  return result;
}

// LibTorch has none of a fixed order.
std::tuple<at::Tensor, at::Tensor, at::Tensor> AttendBackwardAsCudnn(
    const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& sums, const at::Tensor& seed, const at::Tensor& offset, const at::Tensor&, const at::Tensor&,
    const at::Tensor&, c10::SymInt queries, c10::SymInt keys, double dropout, bool causal,
    std::optional<double> scale) {
  TORCH_CHECK(!at::globalContext().deterministicAlgorithms(), "cuDNN's attention has no deterministic backward pass");
  return AttendBackward(gradient, q, k, v, out, sums, {}, {}, queries, keys, dropout, causal, seed, offset, scale);
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_fused_sdp_choice", Choose);
  m.impl("_scaled_dot_product_flash_attention", Attend);
  m.impl("_scaled_dot_product_flash_attention_backward", AttendBackward);
  m.impl("_scaled_dot_product_cudnn_attention", AttendAsCudnn);
  m.impl("_scaled_dot_product_cudnn_attention_backward", AttendBackwardAsCudnn);
}

const bool registered = [] {
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&Choose);
  return true;
}();

}  // namespace
}  // namespace sgmd::stand_in
