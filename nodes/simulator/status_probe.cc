#include "nodes/simulator/status_probe.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "common/error/error.h"
#include "common/messages/control.h"
#include "nodes/simulator/peers.h"

namespace sgmd {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{60}, kPoll{1};

NodeIdentity ClientOf(const SimulatedRun& run) {
  NodeIdentity identity = run.NewProcess(StrCat("client.simulator.", ::getpid()));
  identity.channel = Channel::kControl;
  return identity;
}

}  // namespace

StatusProbe::StatusProbe(const SimulatedRun& run) : client_(run.plan().topology.transport.control, ClientOf(run)) {}

void StatusProbe::Run(const std::stop_token& stop, double period_ms) {
  while (!stop.stop_requested()) {
    Ask(stop);
    Doze(stop, period_ms - record_.answer_ms.back());
  }
}

nlohmann::json StatusProbe::Ask(const std::stop_token& stop) {
  const auto asked = Clock::now();
  client_.Send(ToEnvelope(message::StatusRequest{}));
  std::optional<Envelope> answer;
  while (!answer || answer->kind != wire::Kind::Status) {
    answer = client_.Receive(kPoll);
    const bool too_long = Clock::now() - asked > kPatience || stop.stop_requested();
    if (!answer && too_long) throw Error("the broker does not answer a question for the status");
  }
  record_.answer_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - asked).count());
  auto status = nlohmann::json::parse(FromEnvelope<message::Status>(*answer).json);
  record_.most_queued = std::max(record_.most_queued, status.at("queued").get<std::int64_t>());
  record_.most_leased = std::max(record_.most_leased, status.at("in_flight").get<std::int64_t>());
  return status;
}

}  // namespace sgmd
