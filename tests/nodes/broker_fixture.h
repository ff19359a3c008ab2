// The real broker in a thread, with the test playing the other roles.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/messages/control.h"
#include "common/messages/ring.h"
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

inline TensorFrame Prompts() {
  auto bytes = std::make_shared<std::vector<std::byte>>(16, std::byte{1});
  return {{"prompts", DType::kU8, {1, 16}, std::span(*bytes)}, bytes};
}

inline Envelope Sample(std::int64_t step, float x) {
  return ToEnvelope(
      message::Sample{{step, 0}, step, Floats("", {1, 2}, x), Floats("", {1, 2}, x), Floats("", {1}, 0.5F), Prompts()});
}
inline Envelope Sample(std::int64_t step) { return Sample(step, static_cast<float>(step)); }

inline Envelope Credit(std::int64_t leases) { return ToEnvelope(message::Credit{leases}); }

inline Envelope ScoreFor(const Envelope& lease, std::vector<std::int64_t> shape = {1, 2}, float value = 9) {
  return ToEnvelope(message::Score{
      {lease.step, lease.index}, {lease.request_id, lease.attempt}, 1, Floats("", std::move(shape), value)});
}

/// The first number of a float32 tensor.
inline float First(const TensorFrame& frame) {
  float value = 0;
  std::memcpy(&value, frame.view.bytes.data(), sizeof value);
  return value;
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
    plan_.experiment.data.latent = {2};
    plan_.topology.run.folder = folder_ / "run";
    ResolveDefaults(plan_.topology);
    run_id_ = ExperimentDigest(plan_.experiment);
    MakeRunKeys(Keys(), UsersOf(plan_), false);
  }
  ~BrokerFixture() override { Stop(); }

  void Start(bool replay = false) {
    stop_.now = false;
    broker_ = std::make_unique<Broker>(plan_, Broker::Options{kEpoch, replay});
    thread_ = std::thread([this] { exit_code_ = broker_->Run(stop_); });
  }
  void Stop() {
    stop_.now = true;
    Wait();
  }
  void Wait() {
    if (thread_.joinable()) thread_.join();
    broker_.reset();
  }

  std::filesystem::path Keys() const { return RunFolder{plan_.topology.run.folder}.Keys(); }
  NodeIdentity Identity(const std::string& node) const {
    return {node, run_id_, kEpoch, LoadCredentials(Keys(), UserOf(plan_, node), plan_.topology.transport.encrypt)};
  }
  std::unique_ptr<Client> Join(const std::string& node) {
    message::Hello hello;
    if (node.starts_with("teacher.")) hello.model = ModelDigest(plan_.experiment.model.teacher);
    return std::make_unique<Client>(plan_.topology.transport.data, Identity(node), ToEnvelope(hello), kSoon);
  }
  std::unique_ptr<Client> Control(const std::string& node) {
    NodeIdentity identity = Identity(node);
    identity.channel = Channel::kControl;
    return std::make_unique<Client>(plan_.topology.transport.control, identity, Envelope{}, kSoon);
  }
  void Exited(const std::string& node) { Control("launcher")->Send(ToEnvelope(message::NodeExited{node})); }
  nlohmann::json Status(Client& control) {
    control.Send(ToEnvelope(message::StatusRequest{}));
    const auto answer = control.Receive(kSoon);
    return answer ? nlohmann::json::parse(FromEnvelope<message::Status>(*answer).json) : nlohmann::json();
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
  StopRequests stop_;
  int exit_code_ = -1;
  std::thread thread_;
};

}  // namespace sgmd
