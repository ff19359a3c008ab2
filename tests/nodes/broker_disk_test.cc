// The broker when the disk of its cache is slow: it goes on answering, and asks teachers for no more than it can keep.
#include "tests/nodes/broker_fixture.h"
#include "tests/support/failpoints_here.h"

namespace sgmd {
namespace {

using BrokerDiskTest = BrokerFixture;

TEST_F(BrokerDiskTest, ACheckpointWaitsForTheDiskAndTheLoopDoesNot) {
  const FailpointsHere slow("cache.flush=sleep(2000)@1");
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  const auto control = Control("client.1");
  teacher->Send(Credit(4));
  generator->Send(Sample(0));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  teacher->Send(ScoreFor(*lease));
  ASSERT_TRUE(fake->Receive(kSoon));
  const auto start = std::chrono::steady_clock::now();
  fake->Send(ToEnvelope(message::CheckpointPart{1, "a file", {1, 2}, 1, 0}));
  for (int i = 0; i < 5; ++i) {
    const auto asked = std::chrono::steady_clock::now();
    ASSERT_FALSE(Status(*control).is_null());
    EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(1));
    generator->Send(Sample(1 + i));
    const auto next = teacher->Receive(kSoon);
    ASSERT_TRUE(next) << "requests go on";
    teacher->Send(ScoreFor(*next));
    teacher->Send(Credit(1));
  }
  ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2)) << "too slow to say anything";
  EXPECT_FALSE(generator->Receive(std::chrono::milliseconds(100))) << "the answer of step 0 is not safe yet";
  const auto part = generator->Receive(kSoon);
  ASSERT_TRUE(part);
  EXPECT_EQ(part->kind, wire::Kind::CheckpointPart);
  EXPECT_GT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(1900));
}

TEST_F(BrokerDiskTest, GrantsNoLeaseWhileMoreWaitsThanTheDiskTakes) {
  constexpr std::int64_t kSteps = 20, kFloats = 2 << 20;  // 8 MiB an answer: 32 are being flushed, 64 wait
  plan_.experiment.steps = kSteps;
  plan_.experiment.data.latent = {kFloats};
  run_id_ = ExperimentDigest(plan_.experiment);
  const FailpointsHere slow("cache.flush=sleep(3000)@1");
  Start();
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  teacher->Send(Credit(1));
  const TensorFrame latent = Floats("", {1, kFloats}, 1);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const TensorFrame sigma = Floats("", {1}, static_cast<float>(step));
    generator->Send(ToEnvelope(message::Sample{{step, 0}, step, latent, latent, sigma, Prompts()}));
  }
  int answered = 0;
  const auto answer_all = [&](std::chrono::milliseconds patience) {
    while (answered < kSteps) {
      const auto lease = teacher->Receive(patience);
      if (!lease) return;
      teacher->Send(ScoreFor(*lease, {1, kFloats}));
      teacher->Send(Credit(1));
      ++answered;
    }
  };
  answer_all(std::chrono::milliseconds(500));
  EXPECT_LT(answered, kSteps);
  EXPECT_GT(answered, 4);
  answer_all(kSoon);
  EXPECT_EQ(answered, kSteps);
  EXPECT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == kSteps; }));
}

// Step 0 is scored and stored; a later step with the same values is a hit, whose reading takes `kReading`.
class BrokerReadingTest : public BrokerFixture {
 protected:
  static constexpr std::chrono::milliseconds kReading{4000};

  BrokerReadingTest() {
    Start();
    JoinAll();
    teacher_->Send(Credit(1));
    generator_->Send(Sample(0, 1));
    const auto lease = teacher_->Receive(kSoon);
    teacher_->Send(ScoreFor(*lease));
    fake_->Receive(kSoon);
    EXPECT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == 1; }));
  }
  void JoinAll() {
    generator_ = Join("generator");
    fake_ = Join("fake_score");
    teacher_ = Join("teacher.0");
  }
  void ExpectHit(std::int64_t step) {
    const auto message = fake_->Receive(kSoon);
    ASSERT_TRUE(message);
    const auto scored = FromEnvelope<message::ScoredSample>(*message);
    EXPECT_EQ(scored.sample.ticket.step, step);
    EXPECT_TRUE(scored.cache_hit);
    EXPECT_EQ(First(scored.velocity), 9);
  }

  std::unique_ptr<Client> generator_, fake_, teacher_;
};

TEST_F(BrokerReadingTest, TheLoopGoesOnWhileAHitIsRead) {
  const FailpointsHere slow("cache.get=sleep(4000)@1");
  const auto control = Control("client.1");
  const auto start = std::chrono::steady_clock::now();
  generator_->Send(Sample(1, 1));
  fake_->Send(ToEnvelope(message::CheckpointPart{2, "a file", {1, 2}, 1, 0}));
  for (std::int64_t step = 2; step < 6; ++step) {
    const auto asked = std::chrono::steady_clock::now();
    ASSERT_FALSE(Status(*control).is_null());
    EXPECT_LT(std::chrono::steady_clock::now() - asked, kReading / 3);
    teacher_->Send(Credit(1));
    generator_->Send(Sample(step));
    const auto lease = teacher_->Receive(kSoon);
    ASSERT_TRUE(lease) << "requests go on";
    teacher_->Send(ScoreFor(*lease));
    const auto scored = fake_->Receive(kSoon);
    ASSERT_TRUE(scored);
    EXPECT_EQ(scored->step, step);
  }
  ASSERT_LT(std::chrono::steady_clock::now() - start, kReading) << "too slow to say anything";
  EXPECT_FALSE(generator_->Receive(std::chrono::milliseconds(50))) << "the answer of step 1 has not come";
  ExpectHit(1);
  EXPECT_GE(std::chrono::steady_clock::now() - start, kReading);
  const auto part = generator_->Receive(kSoon);
  ASSERT_TRUE(part);
  EXPECT_EQ(part->kind, wire::Kind::CheckpointPart);
}

TEST_F(BrokerReadingTest, AnswersARequestOnceThatComesAgainWhileItIsRead) {
  const FailpointsHere slow("cache.get=sleep(500)");
  for (int i = 0; i < 3; ++i) generator_->Send(Sample(1, 1));
  ExpectHit(1);
  generator_->Send(Sample(1, 1));
  generator_->Send(Sample(2, 1));
  ExpectHit(2);
  EXPECT_FALSE(fake_->Receive(kBriefly));
}

TEST_F(BrokerReadingTest, AsksATeacherWhereWhatIsReadIsDamaged) {
  const FailpointsHere damaged("cache.get=eio@1");
  teacher_->Send(Credit(1));
  generator_->Send(Sample(1, 1));
  const auto lease = teacher_->Receive(kSoon);
  ASSERT_TRUE(lease);
  teacher_->Send(ScoreFor(*lease));
  const auto scored = fake_->Receive(kSoon);
  ASSERT_TRUE(scored);
  EXPECT_FALSE(FromEnvelope<message::ScoredSample>(*scored).cache_hit);
  EXPECT_TRUE(
      StatusBecomes([](const nlohmann::json& s) { return s["cache"]["corrupt"] == 1 && s["cache"]["entries"] == 1; }));
  generator_->Send(Sample(2, 1));
  ExpectHit(2);
}

TEST_F(BrokerReadingTest, ABrokerThatEndsForgetsWhatItReads) {
  {
    const FailpointsHere slow("cache.get=sleep(2000)");
    for (std::int64_t step = 1; step < 4; ++step) generator_->Send(Sample(step, 1));
    const auto control = Control("client.1");
    ASSERT_FALSE(Status(*control).is_null());
    const auto start = std::chrono::steady_clock::now();
    Stop();
    EXPECT_LT(std::chrono::steady_clock::now() - start, kReading) << "it waits for the one that is being read alone";
  }
  Start();
  JoinAll();
  generator_->Send(Sample(2, 1));
  ExpectHit(2);
  EXPECT_FALSE(fake_->Receive(kBriefly));
}

}  // namespace
}  // namespace sgmd
