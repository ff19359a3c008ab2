// Every message goes into an envelope and comes back the same; one that lacks a field is refused by name.
#include <gmock/gmock.h>

#include "common/messages/control.h"
#include "common/messages/ring.h"
#include "tests/common/transport_fixture.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using namespace message;
using testing::FloatFrame;
using ::testing::HasSubstr;

constexpr std::int64_t kLarge = 1'000'000'000'001;  // no float32 and no int32 holds it

TensorFrame Prompts(std::int64_t batch) {
  auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(16 * batch), std::byte{7});
  return {{"", DType::kU8, {batch, 16}, std::span(*bytes)}, bytes};
}

Sample AnySample() {
  return {{kLarge, 3}, kLarge + 1, FloatFrame("", {2, 3}), FloatFrame("", {2, 3}, 9), FloatFrame("", {2}), Prompts(2)};
}

// Each kind with every field set.
template <typename Message>
Message Any();
template <>
Sample Any() {
  return AnySample();
}
template <>
ScoreLease Any() {
  return {{4, 1}, {17, 2}, FloatFrame("", {2}), Prompts(2), FloatFrame("", {2, 3})};
}
template <>
Score Any() {
  return {{4, 1}, {17, 2}, 1.5, FloatFrame("", {2, 3})};
}
template <>
ScoredSample Any() {
  return {AnySample(), true, FloatFrame("", {2, 3}, 5)};
}
template <>
Gradient Any() {
  return {{4, 1}, kLarge, true, {{"generator_loss", 0.5}}, FloatFrame("", {2, 3})};
}
template <>
InnerSample Any() {
  return {{4, 1}, 2, FloatFrame("", {2, 3}), Prompts(2)};
}
template <>
AnchorRequest Any() {
  return {{4, 1}, FloatFrame("", {2, 3}), Prompts(2)};
}
template <>
AnchorLease Any() {
  return {Any<AnchorRequest>(), {17, 2}};
}
template <>
Anchor Any() {
  return {{4, 1}, {17, 2}, 1.5, FloatFrame("", {2, 3})};
}
template <>
ServedAnchor Any() {
  return {{4, 1}, true, FloatFrame("", {2, 3})};
}
template <>
StudentWeights Any() {
  return {kLarge, 1, 3, {FloatFrame("blocks.0.ffn.0.weight", {2, 3}), FloatFrame("scale", {}, 7)}};
}
template <>
Credit Any() {
  return {3};
}
template <>
Hello Any() {
  return {{1, 2}};
}
template <>
CheckpointOrder Any() {
  return {kLarge};
}
template <>
CheckpointPart Any() {
  return {kLarge, "fake_score.model.safetensors", {1, 2}, 3, 12.5, false};
}
template <>
Finished Any() {
  return {kLarge, 12.5};
}
template <>
Refused Any() {
  return {"no role has this name"};
}
template <>
Failed Any() {
  return {"the run cannot go on"};
}
template <>
Beat Any() {
  return {kLarge, true, {{"step", 4}}};
}
template <>
Status Any() {
  return {"{}"};
}
template <>
Scale Any() {
  return {5};
}
template <>
Scaled Any() {
  return {"no launcher is connected"};
}
template <>
NodeExited Any() {
  return {"teacher.1"};
}
template <>
RoleFailed Any() {
  return {"fake_score", "one\ntwo", 3, 9};
}
template <>
Welcome Any() {
  return {};
}
template <>
Leave Any() {
  return {};
}
template <>
Close Any() {
  return {};
}
template <>
StatusRequest Any() {
  return {};
}
template <>
Drain Any() {
  return {};
}

template <typename Message>
class MessageTest : public ::testing::Test {};
using All = ::testing::Types<Sample, ScoreLease, Score, ScoredSample, Gradient, InnerSample, AnchorRequest, AnchorLease,
                             Anchor, ServedAnchor, StudentWeights, Credit, Hello, CheckpointOrder, CheckpointPart,
                             Finished, Refused, Failed, Beat, Status, Scale, Scaled, NodeExited, RoleFailed, Welcome,
                             Leave, Close, StatusRequest, Drain>;
TYPED_TEST_SUITE(MessageTest, All);

std::vector<Frame> FramesOf(const Envelope& e) {
  std::vector<Frame> frames;
  for (const TensorFrame& tensor : e.tensors) frames.push_back({tensor.view.bytes, tensor.owner});
  return frames;
}

TYPED_TEST(MessageTest, ComesBackFromTheWireTheSame) {
  const Envelope sent = ToEnvelope(Any<TypeParam>());
  EXPECT_EQ(sent.kind, TypeParam::kKind);
  const Envelope received = DecodeEnvelope(EncodeHeader(sent), FramesOf(sent));
  // The header holds every field and a checksum of every tensor.
  EXPECT_EQ(EncodeHeader(ToEnvelope(FromEnvelope<TypeParam>(received))), EncodeHeader(sent));
}

TYPED_TEST(MessageTest, IsRefusedWithoutAnyOfItsFieldsAndNamesIt) {
  Envelope whole = ToEnvelope(Any<TypeParam>());
  whole.node = "somebody";
  const auto error_of = [&](const Envelope& e) { return ErrorOf([&] { FromEnvelope<TypeParam>(e); }); };
  const std::string who = StrCat(wire::EnumNameKind(TypeParam::kKind), " of somebody");
  const bool any_tensors = TypeParam::kKind == wire::Kind::StudentWeights;
  for (const TensorFrame& tensor : whole.tensors) {
    Envelope e = whole;
    std::erase_if(e.tensors, [&](const TensorFrame& t) { return t.view.name == tensor.view.name; });
    EXPECT_EQ(error_of(e), any_tensors ? "no error" : who + " has no tensor " + tensor.view.name);
    e.tensors.push_back({{tensor.view.name, DType::kF64, tensor.view.shape, {}}, nullptr});
    EXPECT_THAT(error_of(e), HasSubstr(who + ": tensor " + tensor.view.name + " does not have the dtype"));
  }
  for (const auto& [name, value] : whole.numbers) {
    Envelope e = whole;
    e.numbers.erase(name);
    EXPECT_EQ(error_of(e), who + " has no number " + name);
  }
  const bool free_names = TypeParam::kKind == wire::Kind::Gradient || TypeParam::kKind == wire::Kind::Beat;
  for (const auto& [name, value] : whole.scalars) {
    Envelope e = whole;
    e.scalars.erase(name);
    EXPECT_EQ(error_of(e), free_names ? "no error" : who + " has no scalar " + name);
  }
  if (!whole.subject.empty()) {
    Envelope e = whole;
    e.subject.clear();
    EXPECT_EQ(error_of(e), who + " does not say what it is about");
  }
  Envelope other = whole;
  other.kind = TypeParam::kKind == wire::Kind::Close ? wire::Kind::Leave : wire::Kind::Close;
  EXPECT_THAT(error_of(other), HasSubstr(StrCat("is not of kind ", wire::EnumNameKind(TypeParam::kKind))));
}

TEST(Messages, StateTheShapesThatBelongTogether) {
  Envelope e = ToEnvelope(AnySample());
  e.tensors[1] = FloatFrame("x_s", {3, 2});
  EXPECT_EQ(ErrorOf([&] { FromEnvelope<Sample>(e); }), "Sample: tensor x_s does not have the shape [2, 3] but [3, 2]");
  e = ToEnvelope(AnySample());
  e.tensors[3] = Prompts(3);
  e.tensors[3].view.name = "prompts";
  EXPECT_EQ(ErrorOf([&] { FromEnvelope<Sample>(e); }),
            "Sample: tensor prompts does not have the shape [2, 16] but [3, 16]");
  e = ToEnvelope(AnySample());
  e.tensors[0] = FloatFrame("x_g", {});
  EXPECT_EQ(ErrorOf([&] { FromEnvelope<Sample>(e); }), "Sample: tensor x_g does not have the shape [any, ...] but []");
}

TEST(Messages, ASenderIsToldOfItsMistake) {
  Sample sample = AnySample();
  sample.sigma = FloatFrame("", {1});
  EXPECT_EQ(ErrorOf([&] { ToEnvelope(sample); }), "Sample: tensor sigma does not have the shape [2] but [1]");
}

TEST(Messages, TensorsShareTheirBytes) {
  const Sample sample = AnySample();
  const Envelope e = ToEnvelope(sample);
  EXPECT_EQ(e.At("x_g").view.bytes.data(), sample.x_g.view.bytes.data());
  EXPECT_EQ(FromEnvelope<Sample>(e).x_g.owner, sample.x_g.owner);
}

}  // namespace
}  // namespace sgmd
