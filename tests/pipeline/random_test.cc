#include "pipeline/flow/random.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "common/error/error.h"
#include "pipeline/flow/philox.h"

namespace sgmd {
namespace {

// Random123 1.14.0, tests/kat_vectors, philox4x32-10.
TEST(Philox, GivesThePublishedBlocks) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}), (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Randomness, IsAFunctionOfSeedStepIndexAndPurpose) {
  EXPECT_TRUE(at::equal(Noise({5}, SeedFor(1, 2, 3, "a")), Noise({5}, SeedFor(1, 2, 3, "a"))));
  const std::uint64_t seed = SeedFor(1, 2, 3, "a");
  EXPECT_NE(seed, SeedFor(2, 2, 3, "a"));
  EXPECT_NE(seed, SeedFor(1, 3, 3, "a"));
  EXPECT_NE(seed, SeedFor(1, 2, 4, "a"));
  EXPECT_NE(seed, SeedFor(1, 2, 3, "b"));
}

// The stream as the header states it, from the published first block: counter 0, key 0, kind 0.
TEST(Uniform, IsTheUpper24BitsOfTheWords) {
  const at::Tensor u = Uniform({4}, 0);
  const std::uint32_t words[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(u[i].item<float>(), static_cast<float>(words[i] >> 8) / 16777216.0F);
}

TEST(Noise, IsBoxMullerOfTheStatedWords) {
  constexpr std::uint64_t kSeed = 0x299f31d0a4093822;
  const at::Tensor noise = Noise({4096}, kSeed);
  for (std::uint32_t i = 0; i < 4096; i += 2) {
    const PhiloxBlock w = Philox({i / 4, 0, 1, 0}, {0xa4093822, 0x299f31d0});
    const double radius = std::sqrt(-2 * std::log((w[i % 4] + 1.0) / 4294967296.0));
    const double angle = 2 * std::acos(-1.0) * (w[i % 4 + 1] / 4294967296.0);
    ASSERT_NEAR(noise[i].item<double>(), radius * std::cos(angle), 5e-7) << i;
    ASSERT_NEAR(noise[i + 1].item<double>(), radius * std::sin(angle), 5e-7) << i;
  }
}

TEST(Randomness, OfAnElementDoesNotDependOnHowManyAreDrawn) {
  for (const std::int64_t count : {1, 2, 3, 5, 1001}) {
    EXPECT_TRUE(at::equal(Noise({count}, 9), Noise({1003}, 9).narrow(0, 0, count))) << count;
    EXPECT_TRUE(at::equal(Uniform({count}, 9), Uniform({1003}, 9).narrow(0, 0, count))) << count;
    EXPECT_TRUE(at::equal(Integers(0, 1000, count, 9), Integers(0, 1000, 1003, 9).narrow(0, 0, count))) << count;
  }
}

TEST(Randomness, HasAllBitsOfTheSeed) {
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t seed = 0x123456789abcdef0, other = seed ^ std::uint64_t{1} << bit;
    EXPECT_FALSE(at::equal(Noise({8}, seed), Noise({8}, other))) << bit;
    EXPECT_FALSE(at::equal(Uniform({8}, seed), Uniform({8}, other))) << bit;
    EXPECT_FALSE(at::equal(Integers(0, 1 << 30, 8, seed), Integers(0, 1 << 30, 8, other))) << bit;
  }
}

TEST(Noise, HasTheMomentsOfANormalDistribution) {
  const at::Tensor x = Noise({1000, 1000}, 3).to(at::kDouble);
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.005);  // 5 standard deviations
  EXPECT_NEAR(x.square().mean().item<double>(), 1, 0.0071);
  EXPECT_NEAR(x.pow(3).mean().item<double>(), 0, 0.0194);
  EXPECT_NEAR(x.pow(4).mean().item<double>(), 3, 0.049);
  const double tail = (x.abs() > 3).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(tail, 0.0026998, 0.00026);
  const at::Tensor flat = x.view(-1);
  for (const std::int64_t lag : {1, 2, 3, 4}) {
    const at::Tensor product = flat.narrow(0, 0, 999990) * flat.narrow(0, lag, 999990);
    EXPECT_NEAR(product.mean().item<double>(), 0, 0.005) << lag;
  }
}

TEST(Uniform, IsFlatAndBelowOne) {
  const at::Tensor x = Uniform({1000000}, 3);
  EXPECT_GE(x.min().item<float>(), 0);
  EXPECT_LT(x.max().item<float>(), 1);
  const at::Tensor counts = at::bincount((x * 100).to(at::kLong), {}, 100).to(at::kDouble);
  const double chi2 = ((counts - 10000).square() / 10000).sum().item<double>();
  EXPECT_LT(chi2, 170);  // 99 degrees of freedom: 5 standard deviations
}

TEST(Integers, AreFlatAndInRange) {
  const at::Tensor x = Integers(-3, 4, 700000, 5);
  EXPECT_EQ(x.min().item<std::int64_t>(), -3);
  EXPECT_EQ(x.max().item<std::int64_t>(), 3);
  const at::Tensor counts = at::bincount(x + 3, {}, 7).to(at::kDouble);
  EXPECT_LT(((counts - 100000).square() / 100000).sum().item<double>(), 24);  // 6 degrees of freedom: 5
  EXPECT_THROW(Integers(2, 2, 1, 1), Error);
}

// Of 3 * 2^61 values, w n / 2^64 without a second attempt would give remainders by 3 with odds 3 : 3 : 2.
TEST(Integers, OfAWideRangeAreDrawnAgainRatherThanWithABias) {
  constexpr std::int64_t kRange = std::int64_t{3} << 61;
  const at::Tensor x = Integers(0, kRange, 60000, 7);
  const at::Tensor counts = at::bincount(at::remainder(x, 3), {}, 3).to(at::kDouble);
  EXPECT_LT(((counts - 20000).square() / 20000).sum().item<double>(), 18);
  EXPECT_GE(x.min().item<std::int64_t>(), 0);
  EXPECT_LT(x.max().item<std::int64_t>(), kRange);
}

TEST(Permutation, HoldsEachNumberOnceAndAllOrdersAreAsLikely) {
  std::vector<std::int64_t> order = Permutation(1000, 1), other = Permutation(1000, 2);
  EXPECT_NE(order, other);
  EXPECT_EQ(order, Permutation(1000, 1));
  std::sort(order.begin(), order.end());
  for (std::int64_t i = 0; i < 1000; ++i) EXPECT_EQ(order[i], i);
  std::map<std::vector<std::int64_t>, int> seen;
  for (std::uint64_t seed = 0; seed < 6000; ++seed) ++seen[Permutation(3, seed)];
  ASSERT_EQ(seen.size(), 6U);
  for (const auto& [permutation, times] : seen) EXPECT_NEAR(times, 1000, 145);  // 5 standard deviations
}

}  // namespace
}  // namespace sgmd
