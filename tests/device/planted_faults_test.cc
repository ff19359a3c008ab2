// What would fail on a GPU fails on the stand-in: else tests on it would show nothing.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <functional>

#include "pipeline/device/open_device.h"

namespace sgmd {
namespace {

struct Fault {
  const char* name;
  // On tensors of cuda:0, cuda:1 and the CPU, each [4, 4].
  std::function<void(const at::Tensor& a, const at::Tensor& b, const at::Tensor& host)> commit;
};

class PlantedFault : public testing::TestWithParam<Fault> {
 protected:
  PlantedFault() { OpenDevice("cuda"); }
};

TEST_P(PlantedFault, IsRefused) {
  const at::Tensor host = at::ones({4, 4});
  EXPECT_THROW(GetParam().commit(host.to("cuda:0"), host.to("cuda:1"), host), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(
    OfTwoDevices, PlantedFault,
    testing::Values(
        Fault{"SumWithTheHost", [](auto& a, auto&, auto& host) { a + host; }},
        Fault{"SumOfTwoGpus", [](auto& a, auto& b, auto&) { a + b; }},
        Fault{"ProductWithTheHost", [](auto& a, auto&, auto& host) { at::matmul(a, host); }},
        Fault{"LinearWithABiasOfTheHost", [](auto& a, auto&, auto& host) { at::linear(a, a, host[0]); }},
        Fault{"NormWithAWeightOfTheHost", [](auto& a, auto&, auto& host) { at::layer_norm(a, {4}, host[0], host[0]); }},
        Fault{"RowsByAnIndexOfTheHost",
              [](auto& a, auto&, auto&) {
                a.index_select(0, at::tensor({0, 1}));
              }},
        Fault{"Concatenation",
              [](auto& a, auto&, auto& host) {
                at::cat({a, host});
              }},
        Fault{"Choice", [](auto& a, auto&, auto& host) { at::where(a > 0, a, host); }},
        Fault{"GradientOfTheHost", [](auto& a, auto&, auto& host) { at::_foreach_addcmul_({a}, {host}, {host}, 1); }},
        Fault{"AverageWithTheHost", [](auto& a, auto&, auto& host) { at::Tensor(a).lerp_(host, 0.5); }},
        Fault{"AttentionToKeysOfTheHost",
              [](auto& a, auto&, auto& host) {
                const at::Tensor q = a.view({1, 1, 4, 4}), k = host.view({1, 1, 4, 4});
                at::scaled_dot_product_attention(q, k, k);
              }},
        Fault{"LossAgainstTheHost", [](auto& a, auto&, auto& host) { at::mse_loss(a, host); }},
        Fault{"TenthGpu", [](auto&, auto&, auto& host) { host.to("cuda:9"); }}),
    [](const auto& of) { return of.param.name; });

TEST(StandInDevice, AllowsWhatAGpuAllows) {
  OpenDevice("cuda");
  const at::Tensor host = at::ones({4, 4}), a = host.to(at::kCUDA);
  EXPECT_EQ((a * at::scalar_tensor(2.0)).sum().item<double>(), 32);  // a number of the host
  EXPECT_EQ(a.clone().copy_(host * 3).sum().item<double>(), 48);
  EXPECT_EQ(a.index({at::tensor({0, 1})}).sum().item<double>(), 8);
}

TEST(StandInDeviceDeathTest, FaultsWhenTheHostReadsADevicesAddress) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        OpenDevice("cuda");
        const volatile float value = at::ones({4}, at::kCUDA).const_data_ptr<float>()[0];
        (void)value;
      },
      "");
}

TEST(StandInDevice, GivesMemoryThatHoldsNoNumbers) {
  OpenDevice("cuda");
  EXPECT_TRUE(at::empty({64}, at::kCUDA).isnan().all().item<bool>());
}

}  // namespace
}  // namespace sgmd
