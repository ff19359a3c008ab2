#include "nodes/simulator/generator_peer.h"

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/metrics/work_count.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{100};
constexpr std::chrono::seconds kClosing{10};

}  // namespace

GeneratorPeer::GeneratorPeer(const SimulatedRun& run, const SimulationOptions& options)
    : options_(options),
      admission_{options.max_staleness, options.steps, {}},
      source_(options.sample_bytes, options.seed),
      peer_(run, Spell(Role::kGenerator)) {}

void GeneratorPeer::Run(const std::function<void()>& look) {
  auto start = last_gradient_ = Clock::now();
  std::int64_t next = 0;
  while (landed() < options_.steps) {
    while (next < options_.steps && admission_.Admits(next, landed())) RollOut(next++, look);
    if (!Land(landed(), look)) return;
    const auto now = Clock::now();
    step_seconds_.push_back(std::chrono::duration<double>(now - start).count());
    start = now;
    peer_.heartbeat.Report({{"step", static_cast<double>(landed())}});
  }
}

void GeneratorPeer::RollOut(std::int64_t step, const std::function<void()>& look) {
  for (std::int32_t index = 0; index < options_.MicroBatches(); ++index) {
    Doze({}, options_.generator_ms);
    ledger_.Expect({step, index});
    peer_.client.Send(ToEnvelope(source_.Of({step, index})));
    CountWork();
    look();
  }
  last_gradient_ = Clock::now();  // there was nothing to wait for before
}

// False when nothing comes any more.
bool GeneratorPeer::Land(std::int64_t step, const std::function<void()>& look) {
  while (ledger_.OpenOf(step) > 0) {
    look();
    if (const auto message = peer_.client.Receive(kPoll)) {
      Take(*message);
    } else if (Clock::now() - last_gradient_ > std::chrono::duration<double>(options_.patience_seconds)) {
      return false;
    }
  }
  return true;
}

void GeneratorPeer::Take(const Envelope& message) {
  if (message.kind == wire::Kind::Close) throw Error("the broker closed the run before it was finished");
  if (message.kind != wire::Kind::Gradient) return;
  const auto gradient = FromEnvelope<message::Gradient>(message);
  ledger_.Came(gradient.ticket, SameBytes(gradient.gradient, source_.Of(gradient.ticket).x_g));
  last_gradient_ = Clock::now();
  CountWork();
}

void GeneratorPeer::Finish() {
  peer_.client.Send(ToEnvelope(message::Finished{landed(), 0}));
  while (const auto message = peer_.client.Receive(kClosing)) {
    if (message->kind == wire::Kind::Close) return;
    Take(*message);
  }
}

}  // namespace sgmd
