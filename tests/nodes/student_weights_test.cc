// The student's weights on their way to the fake score: cut into messages, and put together again.
#include "nodes/fake_score/student_weights.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "nodes/generator/weight_chunks.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Of 4, 12, 4, 40 and 4 bytes.
NamedTensors Weights() {
  return {{"e", at::full({1}, 1.0)},
          {"d", at::full({3}, 2.0)},
          {"c", at::full({}, 3.0)},
          {"b", at::full({2, 5}, 4.0)},
          {"a", at::full({1, 1}, 5.0)}};
}

std::vector<std::size_t> CountsOf(const std::vector<message::StudentWeights>& chunks) {
  std::vector<std::size_t> counts;
  for (const message::StudentWeights& chunk : chunks) counts.push_back(chunk.tensors.size());
  return counts;
}

void ExpectEqual(const NamedTensors& found, const NamedTensors& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].first, expected[i].first);
    EXPECT_TRUE(at::equal(found[i].second, expected[i].second)) << found[i].first;
  }
}

TEST(WeightChunks, KeepBothLimitsButForATensorThatIsLargerAlone) {
  EXPECT_THAT(CountsOf(ChunksOf(3, Weights())), ElementsAre(5));
  EXPECT_THAT(CountsOf(ChunksOf(3, Weights(), {2, 1000})), ElementsAre(2, 2, 1));
  EXPECT_THAT(CountsOf(ChunksOf(3, Weights(), {60, 16})), ElementsAre(2, 1, 1, 1));
  const NamedTensors many(130, {"w", at::zeros({1})});
  EXPECT_THAT(CountsOf(ChunksOf(3, many)), ElementsAre(60, 60, 10));
}

TEST(WeightChunks, DoNotChangeWithTheParameters) {
  const NamedTensors weights = Weights();
  ArrivedWeights arrived;
  const std::vector<message::StudentWeights> chunks = ChunksOf(0, weights);
  for (const auto& [name, tensor] : weights) tensor.add_(1);
  arrived.Add(chunks.front());
  ExpectEqual(arrived.Take(0), Weights());
}

TEST(ArrivedWeights, AreInTheModelsOrderInWhateverOrderTheyCome) {
  const std::vector<message::StudentWeights> chunks = ChunksOf(3, Weights(), {2, 1000});
  ArrivedWeights arrived;
  for (const int i : {2, 0, 1}) {
    EXPECT_FALSE(arrived.Complete(3));
    arrived.Add(chunks[static_cast<std::size_t>(i)]);
  }
  EXPECT_TRUE(arrived.Complete(3));
  EXPECT_FALSE(arrived.Complete(4));
  ExpectEqual(arrived.Take(3), Weights());
  EXPECT_FALSE(arrived.Complete(3));
}

TEST(ArrivedWeights, IgnoreWhatComesTwiceOrTooLate) {
  std::vector<message::StudentWeights> chunks = ChunksOf(3, Weights(), {3, 1000});
  ArrivedWeights arrived;
  arrived.Add(chunks[0]);
  arrived.Add(chunks[0]);
  EXPECT_FALSE(arrived.Complete(3));
  arrived.Add(chunks[1]);
  arrived.Add(chunks[0]);
  ExpectEqual(arrived.Take(3), Weights());
  for (const message::StudentWeights& chunk : chunks) arrived.Add(chunk);
  EXPECT_FALSE(arrived.Complete(3));
}

TEST(ArrivedWeights, RefuseAChunkThatIsNoneOfTheStep) {
  message::StudentWeights chunk = ChunksOf(3, Weights(), {3, 1000})[0];
  ArrivedWeights arrived;
  arrived.Add(chunk);
  chunk.chunk = 2;
  EXPECT_THAT(ErrorOf([&] { arrived.Add(chunk); }),
              HasSubstr("the student's weights of step 3 have 2 chunks, and chunk 2 of 2 came"));
  chunk.chunk = 1;
  chunk.chunks = 3;
  EXPECT_THAT(ErrorOf([&] { arrived.Add(chunk); }), HasSubstr("chunk 1 of 3 came"));
  EXPECT_THAT(ErrorOf([&] { arrived.Take(3); }), HasSubstr("are not complete"));
}

}  // namespace
}  // namespace sgmd
