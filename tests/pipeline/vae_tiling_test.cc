#include "pipeline/vae/vae_tiling.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/counting_allocator.h"
#include "tests/support/error_of.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(VaeTiling, TilesGoToTheEndOfTheFrameAndAreKeptUpToTheNext) {
  EXPECT_THAT(TileSpans(60, 32, 24), ElementsAre(TileSpan{0, 32, 24}, TileSpan{24, 32, 24}, TileSpan{48, 12, 12}));
  EXPECT_THAT(TileSpans(50, 32, 24), ElementsAre(TileSpan{0, 32, 24}, TileSpan{24, 26, 24}, TileSpan{48, 2, 2}))
      << "the last one lies within its neighbour, and is blended all the same, as in diffusers";
}

TEST(VaeTiling, AFrameThatIsNoLargerThanATileIsOne) {
  const VaeTiling tiling;
  EXPECT_EQ(TileGrid::Of(tiling, 8, 32, 32).tiles(), 1);
  EXPECT_EQ(TileGrid::Of(tiling, 8, 32, 33).tiles(), 4) << "as in diffusers, both directions are cut then";
  EXPECT_EQ(TileGrid::Of(tiling, 16, 44, 80).tiles(), 4 * 7);
}

TEST(VaeTiling, NeighboursShareAQuarterRoundedUp) {
  for (const std::int64_t factor : {8, 16}) {
    const VaeTiling usual = VaeTiling::WithQuarterShared(256, factor, "--vae-tile");
    EXPECT_EQ(usual.tile, 256);
    EXPECT_EQ(usual.stride, 192);
  }
  EXPECT_EQ(VaeTiling::WithQuarterShared(40, 8, "").stride, 24);
  EXPECT_EQ(VaeTiling::WithQuarterShared(16, 8, "").stride, 8);
}

TEST(VaeTiling, SaysWhichSizesThereAre) {
  const auto error = [](std::int64_t tile, std::int64_t factor) {
    return ErrorOf([&] { VaeTiling::WithQuarterShared(tile, factor, "--vae-tile"); });
  };
  EXPECT_THAT(error(100, 8), AllOf(HasSubstr("--vae-tile"), HasSubstr("tiles of 100 pixels"),
                                   HasSubstr("multiples of 8"), HasSubstr("give 96 or 104")));
  EXPECT_THAT(error(8, 8), HasSubstr("give 16;"));
  EXPECT_THAT(error(-256, 16), HasSubstr("give 32;"));
  WanVae vae = TinyVae(true);
  const auto refused = [&](const VaeTiling& tiling) { return ErrorOf([&] { vae.TileSpace(tiling); }); };
  EXPECT_THAT(refused({.tile = 64, .stride = 40}), HasSubstr("both must be multiples of 16"));
  EXPECT_THAT(refused({.tile = 64, .stride = 0}), HasSubstr("above 0"));
  EXPECT_THAT(refused({.tile = 64, .stride = 64}), AllOf(HasSubstr("share nothing"), HasSubstr("three quarters")));
}

// Row by row: tiles of ones beside and below tiles of zeros, of which two elements are shared.
TEST(TileSeams, FadeFromTheTileBeforeIntoTheNext) {
  TileSeams seams(2, 2);
  const auto blended = [&](std::size_t row, std::size_t column, at::Tensor part) {
    seams.Blend(row, column, 0, part);
    return part[0][0][0];
  };
  const auto tile = [](double value) { return at::full({1, 1, 1, 3, 3}, value); };
  const at::Tensor ramp = at::tensor({0.0F, 0.5F, 1.0F});
  EXPECT_TRUE(at::equal(blended(0, 0, tile(0)), at::zeros({3, 3})));
  EXPECT_TRUE(at::equal(blended(0, 1, tile(1)), ramp.view({1, 3}).expand({3, 3})));
  EXPECT_TRUE(at::equal(blended(1, 0, tile(1)), ramp.view({3, 1}).expand({3, 3})));
  // The tile above has 0, 0.5, 1 from left to right, the one to the left from top to bottom: both as they were blended.
  const at::Tensor corner = blended(1, 1, tile(1));
  EXPECT_TRUE(at::equal(corner[2], at::ones({3})));
  EXPECT_TRUE(at::equal(corner.select(1, 2), at::ones({3})));
  EXPECT_TRUE(at::equal(corner[0], at::tensor({0.0F, 0.25F, 1.0F})));
}

// The last tile may be shorter than what neighbours share: all of it fades in.
TEST(TileSeams, ReachNoFurtherThanAShortTile) {
  TileSeams seams(4, 2);
  at::Tensor first = at::arange(6, at::kFloat).view({1, 1, 1, 1, 6}), last = at::full({1, 1, 1, 1, 2}, 10.0F);
  seams.Blend(0, 0, 0, first);
  seams.Blend(0, 1, 0, last);
  EXPECT_TRUE(at::equal(last.flatten(), at::tensor({4.0F, 7.5F})));
}

class TiledVae : public testing::TestWithParam<bool> {
 protected:
  TiledVae() { at::set_num_threads(1); }

  // Of so many latent pixels.
  VaeTiling Tiles(std::int64_t tile, std::int64_t stride) const { return {tile * pixels_, stride * pixels_}; }
  WanVae Tiled(const VaeTiling& tiling) const {
    WanVae vae = TinyVae(GetParam());
    vae.TileSpace(tiling);
    return vae;
  }
  at::Tensor Latents(std::int64_t height, std::int64_t width, std::int64_t videos = 1) const {
    return Noise({videos, vae_.channels(), 2, height, width}, 3);
  }
  at::Tensor Pixels(std::int64_t height, std::int64_t width) const {
    return Uniform({1, 3, 5, height * pixels_, width * pixels_}, 4) * 2 - 1;
  }

  const WanVae vae_ = TinyVae(GetParam());
  const std::int64_t pixels_ = vae_.config().spatial_factor();
};
INSTANTIATE_TEST_SUITE_P(, TiledVae, testing::Values(false, true),
                         [](const auto& p) { return p.param ? "Wan22" : "Wan21"; });

TEST_P(TiledVae, ATileThatCoversTheFrameGivesItsBits) {
  const WanVae tiled = Tiled(Tiles(4, 3));
  for (const auto& [height, width] : {std::pair{4, 4}, {4, 3}, {1, 2}}) {
    EXPECT_TRUE(at::equal(tiled.Decode(Latents(height, width)), vae_.Decode(Latents(height, width))));
    EXPECT_TRUE(at::equal(tiled.Encode(Pixels(height, width)), vae_.Encode(Pixels(height, width))));
  }
}

TEST_P(TiledVae, TheFirstTileIsWhatItWouldBeAlone) {
  const WanVae tiled = Tiled(Tiles(3, 2));
  const at::Tensor latents = Latents(5, 4), pixels = Pixels(5, 4);
  const auto corner = [](const at::Tensor& x, std::int64_t side) { return x.narrow(3, 0, side).narrow(4, 0, side); };
  const at::Tensor decoded = tiled.Decode(latents), encoded = tiled.Encode(pixels);
  EXPECT_EQ(decoded.sizes(), pixels.sizes());
  EXPECT_EQ(encoded.sizes(), latents.sizes());
  EXPECT_TRUE(at::equal(corner(decoded, 2 * pixels_), corner(vae_.Decode(corner(latents, 3)), 2 * pixels_)));
  EXPECT_TRUE(at::equal(corner(encoded, 2), corner(vae_.Encode(corner(pixels, 3 * pixels_)), 2)));
  EXPECT_FALSE(at::equal(decoded, vae_.Decode(latents)));
}

TEST_P(TiledVae, VideosOfABatchAreIndependentAndProgressCountsChunksOfTiles) {
  const WanVae tiled = Tiled(Tiles(2, 1));
  const at::Tensor latents = Latents(3, 2, 2);  // three rows of two tiles
  std::vector<std::int64_t> done;
  const at::Tensor both = tiled.Decode(latents, [&](std::int64_t k, std::int64_t total) {
    EXPECT_EQ(total, 2 * 6 * 2);
    done.push_back(k);
  });
  ASSERT_EQ(done.size(), 24U);
  EXPECT_THAT((std::vector<std::int64_t>{done[0], done[1], done[23]}), ElementsAre(1, 2, 24));
  for (std::int64_t b = 0; b < 2; ++b)
    EXPECT_TRUE(at::equal(both.narrow(0, b, 1), tiled.Decode(latents.narrow(0, b, 1))));
  EXPECT_LE(both.abs().max().item<double>(), 1.0);
}

TEST_P(TiledVae, GivesTheSameBitsAgain) {
  const WanVae tiled = Tiled(Tiles(3, 2));
  const at::Tensor decoded = tiled.Decode(Latents(5, 4)), encoded = tiled.Encode(Pixels(5, 4));
  EXPECT_TRUE(at::equal(tiled.Decode(Latents(5, 4)), decoded));
  EXPECT_TRUE(at::equal(tiled.Encode(Pixels(5, 4)), encoded));
}

// Bytes at the most while `run` runs, above those before it.
template <typename Run>
double Peak(Run run) {
  const CountingAllocator counting;
  const std::int64_t before = CountingAllocator::live();
  CountingAllocator::ResetPeak();
  run();
  return static_cast<double>(CountingAllocator::peak() - before);
}

// Of a frame of six tiles by area. What does not fall is the result, and the edges that tiles hand on.
TEST_P(TiledVae, NeedsTheMemoryOfATile) {
  VaeConfig config = TinyVaeConfig(GetParam());
  config.base_dim = config.decoder_base_dim = 16;
  WanVae vae(config);
  for (const auto& [name, parameter] : vae.parameters()) parameter.zero_();
  const std::int64_t height = 128 / pixels_, width = 192 / pixels_;
  const at::Tensor latents = Latents(height, width), pixels = Pixels(height, width);
  const double decode = Peak([&] { vae.Decode(latents); }), encode = Peak([&] { vae.Encode(pixels); });
  vae.TileSpace({.tile = 64, .stride = 48});
  const double tiled_decode = Peak([&] { vae.Decode(latents); }), tiled_encode = Peak([&] { vae.Encode(pixels); });
  std::printf("peak, MB: decode %.1f, in tiles %.1f; encode %.1f, in tiles %.1f\n", decode / 1e6, tiled_decode / 1e6,
              encode / 1e6, tiled_encode / 1e6);
  EXPECT_LT(tiled_decode, decode / 3);
  EXPECT_LT(tiled_encode, encode / 3);
}

}  // namespace
}  // namespace sgmd
