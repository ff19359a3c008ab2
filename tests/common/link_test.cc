// Numbers, receipts and sending again, as the table in link.h says.
#include "common/transport/link.h"

#include <gtest/gtest.h>

#include <random>

namespace sgmd {
namespace {

Envelope Numbered(std::int64_t step) {
  Envelope e;
  e.kind = wire::Kind::Sample;
  e.step = step;
  return e;
}

// What a connection carries, which a test loses, doubles and reorders.
std::vector<Envelope> Drain(Link& link) {
  std::vector<Envelope> out;
  for (const Envelope* next = link.ToSend(); next != nullptr; next = link.ToSend()) {
    out.push_back(*next);
    link.Advance();
  }
  return out;
}

TEST(LinkTest, NumbersFromOneAndKeepsUntilAcknowledged) {
  Link link;
  for (int i = 0; i < 3; ++i) link.Push(Numbered(i));
  const auto first = Drain(link);
  ASSERT_EQ(first.size(), 3U);
  EXPECT_EQ(first[0].number, 1U);
  EXPECT_EQ(first[2].number, 3U);
  EXPECT_TRUE(Drain(link).empty()) << "nothing is sent twice on a connection that holds";
  link.Acknowledge(2);
  link.Rewind();
  const auto again = Drain(link);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].step, 2);
  EXPECT_EQ(link.sent(), 3U);
}

TEST(LinkTest, DealsWithEachNumberOnceAndInOrder) {
  Link link;
  EXPECT_EQ(link.OnArrival(2), Link::Arrival::kGap);
  EXPECT_EQ(link.OnArrival(3), Link::Arrival::kDrop) << "what is missing has been asked for";
  EXPECT_EQ(link.OnArrival(1), Link::Arrival::kNext);
  EXPECT_EQ(link.OnArrival(1), Link::Arrival::kDrop);
  EXPECT_EQ(link.OnArrival(3), Link::Arrival::kGap) << "another one is";
  EXPECT_EQ(link.OnArrival(2), Link::Arrival::kNext);
  EXPECT_EQ(link.received(), 2U);
}

TEST(LinkTest, AcknowledgingMoreThanWasSentForgetsWhatThereIs) {
  Link link;
  link.Push(Numbered(0));
  link.Acknowledge(9);
  EXPECT_EQ(link.ToSend(), nullptr);
  EXPECT_EQ(link.acknowledged(), 1U);
}

TEST(LinkTest, AcknowledgingWhileTheRestIsStillToBeSentKeepsTheOrder) {
  Link link;
  for (int i = 0; i < 4; ++i) link.Push(Numbered(i));
  link.ToSend();
  link.Advance();
  link.Acknowledge(1);
  const auto rest = Drain(link);
  ASSERT_EQ(rest.size(), 3U);
  EXPECT_EQ(rest.front().step, 1);
}

// Two ends over a connection that loses, doubles and reorders at random and breaks now and then.
TEST(LinkTest, DeliversEverythingOverAnyConnection) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const auto chance = [&](int percent) { return static_cast<int>(random() % 100) < percent; };
    Link sender, receiver;
    std::int64_t pushed = 0, delivered = 0;
    for (int round = 0; round < 400 && delivered < 100; ++round) {
      while (pushed < 100 && chance(70)) sender.Push(Numbered(pushed++));
      std::vector<Envelope> wire = Drain(sender);
      if (wire.size() > 1 && chance(20)) std::swap(wire.front(), wire.back());
      for (const Envelope& e : wire) {
        for (int copies = chance(10) ? 0 : chance(10) ? 2 : 1; copies > 0; --copies) {
          if (receiver.OnArrival(e.number) != Link::Arrival::kNext) continue;
          ASSERT_EQ(e.step, delivered) << "seed " << seed;
          ++delivered;
        }
      }
      if (chance(30)) continue;  // this receipt is lost
      sender.Acknowledge(receiver.received());
      if (sender.sent() > receiver.received()) sender.Rewind();  // Missing
    }
    EXPECT_EQ(delivered, 100) << "seed " << seed;
  }
}

TEST(LinkTest, WhatIsAskedAgainAnywayIsNotNumbered) {
  for (const wire::Kind kind : {wire::Kind::Hello, wire::Kind::Beat, wire::Kind::StatusRequest, wire::Kind::Receipt})
    EXPECT_FALSE(IsNumbered(kind)) << wire::EnumNameKind(kind);
  for (const wire::Kind kind : {wire::Kind::Sample, wire::Kind::Gradient, wire::Kind::CheckpointPart,
                                wire::Kind::Finished, wire::Kind::Close, wire::Kind::RoleFailed})
    EXPECT_TRUE(IsNumbered(kind)) << wire::EnumNameKind(kind);
}

}  // namespace
}  // namespace sgmd
