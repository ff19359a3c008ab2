#include "common/transport/envelope.h"

#include <gmock/gmock.h>

#include <cstring>
#include <random>

#include "common/error/error.h"
#include "tests/common/transport_fixture.h"

namespace sgmd {
namespace {

using testing::FloatFrame;
using ::testing::HasSubstr;
using Bytes = std::vector<std::byte>;

Envelope FullEnvelope() {
  Envelope e = testing::Message(wire::Kind::ScoredSample, "generator");
  e.request_id = 11;
  e.attempt = 2;
  e.step = 1'000'000'000'000;
  e.index = 3;
  e.process = 1;
  e.progress = -1;
  e.subject = "teacher.4";
  e.numbers = {{"update", 4}, {"version", std::numeric_limits<std::int64_t>::max()}};
  e.digest = {5, 6};
  e.text = "file.safetensors";
  e.scalars = {{"loss", 0.25}, {"cache_hit", 1}};
  e.tensors = {FloatFrame("x_s", {2, 3}), FloatFrame("scalar", {}), FloatFrame("empty", {0, 4})};
  return e;
}

std::vector<Frame> FramesOf(const Envelope& e) {
  std::vector<Frame> frames;
  for (const TensorFrame& tensor : e.tensors) frames.push_back({tensor.view.bytes, tensor.owner});
  return frames;
}

void ExpectEqual(const Envelope& a, const Envelope& b) {
  // The header holds every field and a checksum of every tensor.
  EXPECT_EQ(EncodeHeader(a), EncodeHeader(b));
}

std::string ErrorOf(const Bytes& header, std::vector<Frame> frames, const EnvelopeLimits& limits = {}) {
  try {
    DecodeEnvelope(header, std::move(frames), limits);
  } catch (const Error& error) {
    return error.message();
  }
  return "no error";
}

// The same bytes under a checksum that fits them.
Bytes Reseal(Bytes header) {
  const std::uint64_t checksum = Checksum(std::span(header).first(header.size() - 8));
  std::memcpy(header.data() + header.size() - 8, &checksum, 8);
  return header;
}

TEST(EnvelopeTest, RoundTripKeepsEveryField) {
  const Envelope sent = FullEnvelope();
  const Envelope got = DecodeEnvelope(EncodeHeader(sent), FramesOf(sent));
  EXPECT_EQ(got.kind, sent.kind);
  EXPECT_EQ(got.node, sent.node);
  EXPECT_EQ(got.run_id, sent.run_id);
  EXPECT_EQ(got.epoch, sent.epoch);
  EXPECT_EQ(got.step, sent.step);
  EXPECT_EQ(got.process, sent.process);
  EXPECT_EQ(got.progress, sent.progress);
  EXPECT_EQ(got.subject, sent.subject);
  EXPECT_EQ(got.numbers, sent.numbers);
  EXPECT_EQ(got.digest, sent.digest);
  EXPECT_EQ(got.text, sent.text);
  EXPECT_EQ(got.scalars, sent.scalars);
  ASSERT_EQ(got.tensors.size(), 3u);
  EXPECT_EQ(got.At("x_s").view.shape, (std::vector<std::int64_t>{2, 3}));
  ExpectEqual(got, sent);
}

TEST(EnvelopeTest, TensorsShareTheBytesOfTheirFrames) {
  const Envelope sent = FullEnvelope();
  const Envelope got = DecodeEnvelope(EncodeHeader(sent), FramesOf(sent));
  EXPECT_EQ(got.At("x_s").view.bytes.data(), sent.At("x_s").view.bytes.data());
  EXPECT_EQ(got.At("x_s").owner, sent.At("x_s").owner);
}

TEST(EnvelopeTest, NamesKindAndTensorThatIsMissing) {
  try {
    FullEnvelope().At("velocity");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("ScoredSample of generator has no tensor velocity"));
  }
}

TEST(EnvelopeTest, RefusesAFrameTooManyOrTooFew) {
  const Envelope e = FullEnvelope();
  auto frames = FramesOf(e);
  frames.pop_back();
  EXPECT_THAT(ErrorOf(EncodeHeader(e), frames), HasSubstr("describes 3 tensors and has 2"));
  frames.resize(4);
  EXPECT_THAT(ErrorOf(EncodeHeader(e), frames), HasSubstr("describes 3 tensors and has 4"));
}

TEST(EnvelopeTest, RefusesAShapeThatIsNotItsFrames) {
  Envelope e = FullEnvelope();
  const auto frames = FramesOf(e);
  for (const std::vector<std::int64_t>& shape : std::vector<std::vector<std::int64_t>>{{2, 4}, {-2, -3}, {6, -1}}) {
    e.tensors[0].view.shape = shape;
    EXPECT_THAT(ErrorOf(EncodeHeader(e), frames), ::testing::Not("no error"));
  }
  // 4 * 2^62 * 4 bytes is 0 modulo 2^64, the size of an empty frame.
  e.tensors[2].view.shape = {4, std::int64_t{1} << 62};
  e.tensors[0].view.shape = {2, 3};
  EXPECT_THAT(ErrorOf(EncodeHeader(e), frames), HasSubstr("overflow"));
}

TEST(EnvelopeTest, RefusesWhatIsOverTheLimits) {
  const Envelope e = FullEnvelope();
  const Bytes header = EncodeHeader(e);
  EXPECT_THAT(ErrorOf(header, FramesOf(e), {.max_header_bytes = 64}), HasSubstr("size limit"));
  EXPECT_THAT(ErrorOf(header, FramesOf(e), {.max_tensors = 2}), HasSubstr("too many frames"));
  EXPECT_THAT(ErrorOf(header, FramesOf(e), {.max_rank = 1}), HasSubstr("rank"));
  EXPECT_THAT(ErrorOf(header, FramesOf(e), {.max_frame_bytes = 8}), ::testing::Not("no error"));
}

TEST(EnvelopeTest, RefusesDamagedTensorBytes) {
  const Envelope e = FullEnvelope();
  auto frames = FramesOf(e);
  Bytes damaged(frames[0].bytes.begin(), frames[0].bytes.end());
  damaged[5] ^= std::byte{1};
  frames[0].bytes = damaged;
  EXPECT_THAT(ErrorOf(EncodeHeader(e), frames), HasSubstr("tensor x_s: checksum mismatch"));
}

TEST(EnvelopeTest, WhatIsPassedOnIsNotHashedAgainSoThatTheNextReceiverFindsDamageInBetween) {
  Envelope sent = FullEnvelope();
  Bytes bytes(sent.tensors[0].view.bytes.begin(), sent.tensors[0].view.bytes.end());
  auto frames = FramesOf(sent);
  frames[0].bytes = bytes;
  const Envelope received = DecodeEnvelope(EncodeHeader(sent), frames);
  EXPECT_EQ(received.At("x_s").checksum, Checksum(bytes));
  EXPECT_EQ(ErrorOf(EncodeHeader(received), FramesOf(received)), "no error");
  bytes[5] ^= std::byte{1};
  EXPECT_THAT(ErrorOf(EncodeHeader(received), FramesOf(received)), HasSubstr("tensor x_s: checksum mismatch"));
  EXPECT_FALSE(sent.At("x_s").checksum) << "nobody has verified it";
}

TEST(EnvelopeTest, RefusesADTypeItDoesNotKnow) {
  Envelope e = FullEnvelope();
  e.tensors.resize(1);
  e.tensors[0].view.dtype = static_cast<DType>(kDTypeCount);
  EXPECT_THAT(ErrorOf(EncodeHeader(e), FramesOf(e)), HasSubstr("unknown dtype"));
}

TEST(EnvelopeTest, ReadsAHeaderAtAnyAlignment) {
  const Envelope e = FullEnvelope();
  const Bytes header = EncodeHeader(e);
  for (std::size_t offset = 0; offset < 8; ++offset) {
    Bytes shifted(offset);
    shifted.insert(shifted.end(), header.begin(), header.end());
    ExpectEqual(DecodeEnvelope(std::span(shifted).subspan(offset), FramesOf(e)), e);
  }
}

Bytes Damage(Bytes header, std::mt19937& random) {
  if (random() % 3 == 0) header.resize(random() % header.size());
  const auto flips = random() % 4;
  for (unsigned i = 0; i < flips && !header.empty(); ++i) {
    header[random() % header.size()] ^= static_cast<std::byte>(1u << (random() % 8));
  }
  return header;
}

TEST(EnvelopeTest, DamagedHeaderIsAnErrorOrTheSameMessage) {
  const Envelope e = FullEnvelope();
  const Bytes header = EncodeHeader(e);
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    try {
      ExpectEqual(DecodeEnvelope(Damage(header, random), FramesOf(e)), e);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 10'000);
}

// What a sender gets through that knows the format but not the rules: the checksum holds, the tables are wild.
TEST(EnvelopeTest, SurvivesDamageUnderAValidChecksum) {
  const Envelope e = FullEnvelope();
  const Bytes header = EncodeHeader(e);
  std::mt19937 random(2);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    Bytes damaged = Damage(header, random);
    if (damaged.size() < 8) continue;
    try {
      const Envelope got = DecodeEnvelope(Reseal(std::move(damaged)), FramesOf(e));
      for (const TensorFrame& tensor : got.tensors) {
        EXPECT_EQ(CheckedByteSize(tensor.view.dtype, tensor.view.shape), tensor.view.bytes.size());
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1'000);
}

}  // namespace
}  // namespace sgmd
