// Which kernels attention takes on a GPU, and that what it gives is the same.
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>

#include <cstdlib>

#include "common/log/log.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/attention.h"
#include "pipeline/models/checkpointing.h"
#include "pipeline/models/cudnn_attention.h"
#include "tests/device/both_devices.h"

namespace sgmd {
namespace {

constexpr std::int64_t kHead = 24;

AttentionInputs Inputs(at::Device device, at::ScalarType dtype, std::int64_t head = kHead, std::int64_t keys = 45) {
  const auto heads = [&](std::int64_t rows, std::uint64_t seed) {
    return Noise({2, rows, 3, head}, seed).to(device, dtype).transpose(1, 2);
  };
  return {heads(37, 1), heads(keys, 2), heads(keys, 3)};
}

std::vector<at::Tensor> OutputAndGradients(const AttentionInputs& in,
                                           const std::function<at::Tensor(const AttentionInputs&)>& attend) {
  const AttentionInputs own{in.q.detach().requires_grad_(), in.k.detach().requires_grad_(),
                            in.v.detach().requires_grad_()};
  const at::Tensor out = attend(own);
  out.to(at::kFloat).square().sum().backward();
  return {out.detach(), own.q.grad(), own.k.grad(), own.v.grad()};
}

at::Tensor Plain(const AttentionInputs& in) { return Attention(in.q, in.k, in.v, /*keep=*/false); }

bool Same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) { return x.equal(y); });
}

TEST(AttentionOnAGpu, IsThatOfTheCpuInBfloat16) {
  ExpectTheSameOnBothDevices([](at::Device device) { return OutputAndGradients(Inputs(device, at::kBFloat16), Plain); },
                             /*bound=*/0.03);
}

TEST(AttentionOnAGpu, HasTheSameBitsWithAndWithoutGradientsCheckpointedAndKept) {
  const AttentionInputs in = Inputs(LastGpu(), at::kBFloat16);
  const std::vector<at::Tensor> plain = OutputAndGradients(in, Plain);
  {
    const c10::NoGradGuard no_grad;
    EXPECT_TRUE(Plain(in).equal(plain.front()));
  }
  for (const bool keep : {false, true}) {
    const auto checkpointed = [&](const AttentionInputs& own) {
      return Checkpoint([](const auto& t) { return Attention(t[0], t[1], t[2], /*keep=*/true); }, {own.q, own.k, own.v},
                        {}, keep);
    };
    EXPECT_TRUE(Same(OutputAndGradients(in, checkpointed), plain)) << keep;
    EXPECT_TRUE(Same(OutputAndGradients(in, Plain), plain)) << keep;
  }
}

TEST(AttentionOnAGpu, TakesCudnnForwardWhereLibTorchWouldAndRunsAreDeterministic) {
  const at::Device gpu = LastGpu();
  const AttentionInputs in = Inputs(gpu, at::kBFloat16);
  if (!CudnnAttends(in)) GTEST_SKIP() << "LibTorch does not prefer cuDNN's attention on this GPU";
  EXPECT_TRUE(Plain(in).equal(CudnnForward(in).out));
  EXPECT_FALSE(CudnnAttends(Inputs(gpu, at::kFloat)));
  EXPECT_FALSE(CudnnAttends(Inputs(gpu, at::kBFloat16, /*head=*/20)));
  EXPECT_FALSE(CudnnAttends(Inputs(gpu, at::kBFloat16, /*head=*/136)));
  EXPECT_FALSE(CudnnAttends(Inputs(gpu, at::kBFloat16, kHead, /*keys=*/1)));
  EXPECT_FALSE(CudnnAttends(Inputs(at::kCPU, at::kBFloat16)));
}

TEST(AttentionOnTheStandIn, IsFlashAttentionWhereCudnnFailsItsTrial) {
  constexpr std::int64_t kWrongHead = 40;
  ::setenv("SGMD_STAND_IN_WRONG_HEAD", "40", /*overwrite=*/1);
  const AttentionInputs in = Inputs(LastGpu(), at::kBFloat16, kWrongHead);
  InitLog("device_test");
  testing::internal::CaptureStderr();
  EXPECT_FALSE(CudnnAttends(in));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("its sums differ by 0."));
  EXPECT_TRUE(Plain(in).equal(FlashForward(in).out));
}

}  // namespace
}  // namespace sgmd
