// The real broker in a thread, with the test playing the other roles.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/transport/client.h"
#include "nodes/broker/broker.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {

inline constexpr std::uint64_t kEpoch = 7;
inline constexpr std::chrono::milliseconds kSoon{5000}, kBriefly{250};

inline TensorFrame Floats(std::string name, std::vector<std::int64_t> shape, float value) {
  auto data = std::make_shared<std::vector<float>>(CheckedByteSize(DType::kF32, shape) / 4, value);
  return {{std::move(name), DType::kF32, std::move(shape), std::as_bytes(std::span(*data))}, data};
}

inline Envelope Message(wire::Kind kind, std::int64_t step = 0) {
  Envelope envelope;
  envelope.kind = kind;
  envelope.step = step;
  return envelope;
}

inline Envelope Sample(std::int64_t step) {
  Envelope sample = Message(wire::Kind::Sample, step);
  const auto value = static_cast<float>(step);
  sample.tensors = {Floats("x_g", {1, 2}, value), Floats("x_s", {1, 2}, value), Floats("sigma", {1}, 0.5F),
                    Floats("prompts", {1, 4}, 1)};
  return sample;
}

inline Envelope Credit(int count) {
  Envelope credit = Message(wire::Kind::Credit);
  credit.count = count;
  return credit;
}

inline Envelope ScoreFor(const Envelope& lease, std::vector<std::int64_t> shape = {1, 2}) {
  Envelope score = Message(wire::Kind::Score, lease.step);
  score.request_id = lease.request_id;
  score.attempt = lease.attempt;
  score.tensors = {Floats("velocity", std::move(shape), 9)};
  return score;
}

class BrokerFixture : public testing::Test {
 protected:
  BrokerFixture() {
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
  }
  ~BrokerFixture() override { Stop(); }

  void Start(bool replay = false) {
    stop_ = false;
    broker_ = std::make_unique<Broker>(plan_, Broker::Options{kEpoch, replay});
    thread_ = std::thread([this] { exit_code_ = broker_->Run(stop_); });
  }
  void Stop() {
    stop_ = true;
    Wait();
  }
  void Wait() {
    if (thread_.joinable()) thread_.join();
    broker_.reset();
  }

  NodeIdentity Identity(const std::string& node) const { return {node, run_id_, kEpoch}; }
  std::unique_ptr<Client> Join(const std::string& node) {
    Envelope hello;
    if (node.starts_with("teacher.")) hello.digest = ModelDigest(plan_.experiment.model.teacher);
    return std::make_unique<Client>(plan_.topology.transport.data, Identity(node), hello, kSoon);
  }
  std::unique_ptr<Client> Control(const std::string& node) {
    return std::make_unique<Client>(plan_.topology.transport.control, Identity(node), Envelope{}, kSoon);
  }
  void Exited(const std::string& node) {
    Envelope exited = Message(wire::Kind::NodeExited);
    exited.text = node;
    Control("launcher")->Send(exited);
  }
  nlohmann::json Status(Client& control) {
    control.Send(Message(wire::Kind::StatusRequest));
    const auto answer = control.Receive(kSoon);
    return answer ? nlohmann::json::parse(answer->text) : nlohmann::json();
  }
  // Until the status says what is wanted.
  template <typename Predicate>
  bool StatusBecomes(Predicate wanted) {
    const auto control = Control("client.1");
    for (int i = 0; i < 100; ++i) {
      if (wanted(Status(*control))) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }

  TempFolder folder_;
  LaunchPlan plan_;
  Digest run_id_;
  std::unique_ptr<Broker> broker_;
  volatile bool stop_ = false;
  int exit_code_ = -1;
  std::thread thread_;
};

}  // namespace sgmd
