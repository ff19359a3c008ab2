#include "nodes/broker/broker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <zmq.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/transport/client.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TensorFrame Floats(std::string name, std::vector<std::int64_t> shape, float value) {
  auto data = std::make_shared<std::vector<float>>(CheckedByteSize(DType::kF32, shape) / 4, value);
  return {{std::move(name), DType::kF32, std::move(shape), std::as_bytes(std::span(*data))}, data};
}

// The real broker in a thread, with the test playing the other roles.
class BrokerTest : public testing::Test {
 protected:
  BrokerTest() {
    std::filesystem::create_directories(folder_ / "model");
    WriteFileAtomically(folder_ / "model/config.json", "{}");
    WriteFileAtomically(folder_ / "model/m.safetensors", "weights");
    WriteFileAtomically(folder_ / "bank", "bank");
    plan_.experiment.model.teacher = folder_ / "model";
    plan_.experiment.model.prompts = folder_ / "bank";
    plan_.experiment.steps = 10;
    plan_.topology.run.folder = folder_ / "run";
    ResolveDefaults(plan_.topology);
    run_id_ = ExperimentDigest(plan_.experiment);
    broker_ = std::make_unique<Broker>(plan_, Broker::Options{kEpoch, false});
    thread_ = std::thread([this] { exit_code_ = broker_->Run(stop_); });
  }
  ~BrokerTest() override {
    stop_ = true;
    thread_.join();
  }

  Client Join(const std::string& node) {
    Envelope hello;
    if (node.starts_with("teacher.")) hello.digest = ModelDigest(plan_.experiment.model.teacher);
    return Client(plan_.topology.transport.data, {node, run_id_, kEpoch}, hello, seconds(5));
  }
  std::string Refusal(const NodeIdentity& identity, Digest digest = {}) {
    Envelope hello;
    hello.digest = digest;
    try {
      Client(plan_.topology.transport.data, identity, hello, seconds(5));
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  static Envelope Sample(std::int64_t step, float x) {
    Envelope sample;
    sample.kind = wire::Kind::Sample;
    sample.step = step;
    sample.tensors = {Floats("x_g", {1, 2}, x), Floats("x_s", {1, 2}, x), Floats("sigma", {1}, 0.5F),
                      Floats("prompts", {1, 4}, 1)};
    return sample;
  }
  static Envelope Credit(int count) {
    Envelope credit;
    credit.kind = wire::Kind::Credit;
    credit.count = count;
    return credit;
  }
  static Envelope ScoreFor(const Envelope& lease, float value) {
    Envelope score;
    score.kind = wire::Kind::Score;
    score.request_id = lease.request_id;
    score.attempt = lease.attempt;
    score.tensors = {Floats("velocity", {1, 2}, value)};
    return score;
  }

  static constexpr std::uint64_t kEpoch = 7;
  TempFolder folder_;
  LaunchPlan plan_;
  Digest run_id_;
  std::unique_ptr<Broker> broker_;
  volatile bool stop_ = false;
  int exit_code_ = -1;
  std::thread thread_;
};

TEST_F(BrokerTest, RefusesAnotherRunAnotherEpochAndAnotherTeacher) {
  EXPECT_THAT(Refusal({"generator", {1, 1}, kEpoch}), testing::HasSubstr("refused generator"));
  EXPECT_THAT(Refusal({"generator", run_id_, kEpoch + 1}), testing::HasSubstr("epoch 8"));
  EXPECT_THAT(Refusal({"teacher.0", run_id_, kEpoch}, {5, 5}), testing::HasSubstr(Digest{5, 5}.Hex()));
  EXPECT_THAT(Refusal({"stranger", run_id_, kEpoch}), testing::HasSubstr("refused stranger"));
}

TEST_F(BrokerTest, LeasesASampleOnceAndServesItsTwinFromTheCache) {
  Client generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  teacher.Send(Credit(4));
  generator.Send(Sample(0, 1.5F));
  const auto lease = teacher.Receive(seconds(5));
  ASSERT_TRUE(lease && lease->kind == wire::Kind::Lease);
  EXPECT_EQ(lease->Find("x_g"), nullptr) << "a teacher needs x_s alone";
  teacher.Send(ScoreFor(*lease, 9));
  const auto first = fake.Receive(seconds(5));
  ASSERT_TRUE(first && first->kind == wire::Kind::ScoredSample);
  EXPECT_EQ(first->scalars.at("cache_hit"), 0);
  float velocity = 0;
  std::memcpy(&velocity, first->At("velocity").view.bytes.data(), 4);
  EXPECT_EQ(velocity, 9);
  std::optional<Envelope> again;
  for (int step = 1; step < 50; ++step) {  // the score is persisted after the reply: at once, but not before
    generator.Send(Sample(step, 1.5F));
    again = fake.Receive(milliseconds(100));
    if (again) break;
    if (const auto repeated = teacher.Receive(seconds(1))) teacher.Send(ScoreFor(*repeated, 9));
    again = fake.Receive(seconds(5));
    if (again && again->scalars.at("cache_hit") == 1) break;
  }
  ASSERT_TRUE(again);
  EXPECT_EQ(again->scalars.at("cache_hit"), 1);
}

TEST_F(BrokerTest, GivesTheLeaseOfALeavingTeacherToAnother) {
  Client generator = Join("generator"), fake = Join("fake_score");
  Client first = Join("teacher.0");
  first.Send(Credit(1));
  generator.Send(Sample(0, 2));
  ASSERT_TRUE(first.Receive(seconds(5)));
  Client second = Join("teacher.1");
  second.Send(Credit(1));
  Envelope leave;
  leave.kind = wire::Kind::Leave;
  first.Send(leave);
  const auto lease = second.Receive(seconds(5));
  ASSERT_TRUE(lease && lease->kind == wire::Kind::Lease);
  EXPECT_EQ(lease->attempt, 2U);
}

TEST_F(BrokerTest, SurvivesMalformedMessages) {
  zmq::context_t context;
  zmq::socket_t raw(context, zmq::socket_type::dealer);
  raw.set(zmq::sockopt::linger, 1000);
  raw.connect(plan_.topology.transport.data);
  for (const std::string& junk : {std::string(), std::string("junk"), std::string(4096, '\xff')}) {
    raw.send(zmq::buffer(junk), zmq::send_flags::sndmore);
    raw.send(zmq::buffer(junk), zmq::send_flags::none);
  }
  EXPECT_NO_THROW(Join("generator"));
}

TEST_F(BrokerTest, EndpointInUseIsAnError) {
  LaunchPlan other = plan_;
  other.topology.cache.folder = folder_ / "other-cache";
  try {
    Broker(other, {kEpoch, false});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("in use"));
    EXPECT_THAT(error.what(), testing::HasSubstr(plan_.topology.transport.data));
  }
}

TEST_F(BrokerTest, ClosesEveryNodeWhenTheGeneratorHasFinished) {
  Client generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  Envelope finished;
  finished.kind = wire::Kind::Finished;
  generator.Send(finished);
  for (Client* node : {&generator, &fake, &teacher}) {
    const auto close = node->Receive(seconds(5));
    ASSERT_TRUE(close);
    EXPECT_EQ(close->kind, wire::Kind::Close);
  }
}

}  // namespace
}  // namespace sgmd
