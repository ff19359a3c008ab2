#include "pipeline/models/cudnn_attention.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/log/log.h"

namespace sgmd {
namespace {

constexpr std::int64_t kWidestHead = 128, kHeadMultiple = 8;

// LibTorch's choice where nothing has to be deterministic: it knows GPUs and versions of cuDNN.
bool LibTorchPrefersCudnn(const AttentionInputs& in) {
  at::Context& context = at::globalContext();
  context.setDeterministicAlgorithms(false, /*warn_only=*/false);
  const std::int64_t choice = at::_fused_sdp_choice(in.q, in.k, in.v);
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  return choice == static_cast<std::int64_t>(at::SDPBackend::cudnn_attention);
}

// [1, 2, rows, d] of numbers in [-1, 1] without a pattern.
at::Tensor Numbers(const at::Tensor& like, std::int64_t rows, double pitch) {
  constexpr std::int64_t kHeads = 2;
  const std::int64_t head = like.size(-1);
  const at::Tensor wide = at::arange(kHeads * rows * head, like.options().dtype(at::kFloat)).mul_(pitch).sin_();
  return wide.view({1, rows, kHeads, head}).transpose(1, 2).to(like.scalar_type());
}

double Difference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kCPU, at::kDouble), y = b.to(at::kCPU, at::kDouble);
  return (x - y).abs().max().item<double>() / y.abs().max().item<double>();
}

// Empty where cuDNN gives what FlashAttention-2 gives.
std::string WhatIsWrong(const AttentionInputs& in, const at::Tensor& gradient) {
  constexpr double kBound = 0.03;  // some roundings of bfloat16, of which each is at most 0.004
  constexpr const char* kNames[] = {"its output differs", "its sums differ", "the gradients of queries differ",
                                    "the gradients of keys differ", "the gradients of values differ"};
  const auto all = [&](const AttentionResult& result) {
    std::vector<at::Tensor> tensors{result.out, result.sums};
    for (const at::Tensor& g : FlashBackward(gradient, in, result)) tensors.push_back(g);
    return tensors;
  };
  const AttentionResult first = CudnnForward(in);
  if (!at::equal(first.out, CudnnForward(in).out)) return "its bits differ from one time to the next";
  const std::vector<at::Tensor> found = all(first), expected = all(FlashForward(in));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = Difference(found[i], expected[i]);
    if (!(difference <= kBound)) return StrCat(kNames[i], " by ", difference);
  }
  return "";
}

bool Try(const at::Tensor& like) {
  constexpr std::int64_t kQueries = 193, kKeys = 130;  // no multiples of a tile
  const c10::NoGradGuard no_grad;
  const AttentionInputs in{Numbers(like, kQueries, 1.7), Numbers(like, kKeys, 2.3), Numbers(like, kKeys, 2.9)};
  if (!LibTorchPrefersCudnn(in)) return false;
  std::string wrong;
  try {
    wrong = WhatIsWrong(in, Numbers(like, kQueries, 3.1));
  } catch (const c10::Error& error) {
    wrong = FirstLine(error.what_without_backtrace());
  }
  if (!wrong.empty())
    LogWarning("cuDNN's attention is not used, and FlashAttention-2's takes its place, which is slower: ", wrong);
  return wrong.empty();
}

}  // namespace

bool CudnnAttends(const AttentionInputs& in) {
  const std::int64_t head = in.q.size(-1);
  if (!in.q.is_cuda() || !at::globalContext().deterministicAlgorithms() || head > kWidestHead ||
      head % kHeadMultiple != 0 || in.k.size(2) <= 1)
    return false;
  static std::mutex mutex;
  static std::map<std::pair<std::int64_t, at::ScalarType>, bool> tried;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = tried.try_emplace({head, in.q.scalar_type()}, false);
  if (is_new) entry->second = Try(in.q);
  return entry->second;
}

AttentionResult CudnnForward(const AttentionInputs& in) {
  const auto all = at::_scaled_dot_product_cudnn_attention(in.q, in.k, in.v, /*attn_bias=*/std::nullopt,
                                                           /*compute_log_sumexp=*/true);
  return {std::get<0>(all), std::get<1>(all).reshape({in.q.size(0), in.q.size(1), in.q.size(2)}).contiguous()};
}

}  // namespace sgmd
