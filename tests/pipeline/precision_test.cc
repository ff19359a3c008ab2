// bfloat16 compute against float32. Tiny: this arithmetic is slow on a CPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

const WanPrecision kTrained{at::kFloat, at::kBFloat16};

double RelativeError(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected.to(at::kDouble)).norm() / expected.to(at::kDouble).norm()).item<double>();
}

TEST(Precision, Bfloat16ComputeStaysNearFloat32AndReturnsFloat32) {
  const TinyInputs in;
  const at::Tensor expected = RandomModel(TinyWanConfig(2)).Forward(in.x, in.sigma, {in.context});
  const at::Tensor found = RandomModel(TinyWanConfig(2), kTrained).Forward(in.x, in.sigma, {in.context});
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  EXPECT_LT(RelativeError(found, expected), 0.02);
  EXPECT_GT(RelativeError(found, expected), 1e-4) << "nothing was computed in bfloat16";
}

TEST(Precision, GradientsLandInFloat32Masters) {
  const TinyInputs in;
  WanTransformer wide = RandomModel(TinyWanConfig(2)), model = RandomModel(TinyWanConfig(2), kTrained);
  for (WanTransformer* m : {&wide, &model}) {
    m->SetRequiresGrad(true);
    m->Forward(in.x, in.sigma, {in.context}).square().mean().backward();
  }
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const auto& [name, p] = model.parameters()[i];
    EXPECT_EQ(p.scalar_type(), at::kFloat) << name;
    ASSERT_TRUE(p.grad().defined()) << name;
    EXPECT_EQ(p.grad().scalar_type(), at::kFloat) << name;
    // The bias of keys moves every score of a query by the same amount but for the norm: its gradient is nearly
    // nothing.
    if (name.ends_with("k.bias")) continue;
    EXPECT_LT(RelativeError(p.grad(), wide.parameters()[i].second.grad()), 0.15) << name;
  }
}

TEST(Precision, AFrozenModelIsKeptInBfloat16ButForTheIslands) {
  TempFolder folder;
  const TinyInputs in;
  const WanTransformer master = RandomModel(TinyWanConfig(2), kTrained);
  master.Save(folder.path());
  const WanTransformer frozen = WanTransformer::Load(folder.path(), at::kCPU, {at::kBFloat16, at::kBFloat16});
  int islands = 0;
  for (const auto& [name, p] : frozen.parameters()) {
    EXPECT_EQ(p.scalar_type(), IsFloat32Island(name) ? at::kFloat : at::kBFloat16) << name;
    islands += IsFloat32Island(name) ? 1 : 0;
  }
  EXPECT_EQ(islands, 4 + 2 * 3 + 1);  // time embedding; modulation and norm3 of two blocks; head.modulation
  // Weights rounded when they are stored or when they are used: the same, but for the norms of queries and keys.
  EXPECT_LT(RelativeError(frozen.Forward(in.x, in.sigma, {in.context}), master.Forward(in.x, in.sigma, {in.context})),
            0.01);
}

TEST(Precision, IslandsAreThoseOfDiffusers) {
  for (const char* name :
       {"time_embedding.0.weight", "blocks.3.modulation", "blocks.3.norm3.bias", "head.modulation"}) {
    EXPECT_TRUE(IsFloat32Island(name)) << name;
  }
  for (const char* name : {"time_projection.1.weight", "blocks.3.self_attn.norm_q.weight", "text_embedding.0.weight",
                           "head.head.weight"}) {
    EXPECT_FALSE(IsFloat32Island(name)) << name;
  }
}

}  // namespace
}  // namespace sgmd
