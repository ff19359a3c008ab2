#include "nodes/simulator/simulation.h"

#include <chrono>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "nodes/simulator/broker_process.h"
#include "nodes/simulator/generator_peer.h"
#include "nodes/simulator/peers.h"
#include "nodes/simulator/simulated_run.h"

namespace sgmd {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kProgressSeconds = 3;
constexpr std::chrono::milliseconds kGlance{20};
constexpr std::chrono::seconds kBrokersEnd{10}, kPatience{60};

double OwnCpuSeconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

class Simulation {
 public:
  Simulation(const SimulationOptions& options, const StopRequests& stop)
      : options_(options), stop_(stop), run_(options), broker_(options.broker, run_.folder(), SimulatedRun::kEpoch) {}

  SimulationReport Run() {
    WaitForBroker();
    StartPeers();
    GeneratorPeer generator(run_, options_);
    WaitForPeers();
    StatusProbe probe(run_);
    SimulationReport report;
    report.options = options_;
    Measure(generator, probe, report);
    const nlohmann::json status = probe.Ask();
    report.status = probe.record();
    report.redispatched = status.at("dispatcher").at("redispatched");
    report.dropped = status.at("dispatcher").at("dropped");
    const nlohmann::json& cache = status.at("cache");
    report.cache_entries = cache.at("entries");
    report.cache_bytes = cache.at("bytes");
    report.cache_lost = cache.at("lost");
    generator.Finish();
    End();
    report.gradients = generator.ledger();
    report.scored = scored_;
    report.step_seconds = generator.step_seconds();
    report.elsewhere_seconds = hung_.seconds();
    return report;
  }

 private:
  void StartPeers() {
    for (std::int64_t step = 0; step < options_.steps; ++step) {
      for (std::int32_t index = 0; index < options_.MicroBatches(); ++index) scored_.Expect({step, index});
    }
    peers_.emplace();
    peers_->Start([&](const std::stop_token& stop) { RunFakeScorePeer(run_, options_, scored_, ready_, stop); });
    for (std::int64_t teacher = 0; teacher < options_.teachers; ++teacher) {
      peers_->Start([this, teacher](const std::stop_token& stop) {
        RunTeacherPeer(run_, options_, teacher, hung_, ready_, stop);
      });
    }
  }

  // Until it has bound its sockets: who connects to one that has failed waits for long.
  void WaitForBroker() {
    const auto bound = [](const std::string& endpoint) {
      return std::filesystem::exists(SimulatedRun::SocketPath(endpoint));
    };
    const Topology::Transport& transport = run_.plan().topology.transport;
    WaitUntil([&] { return bound(transport.data) && bound(transport.control); }, "the broker does not come up");
  }

  void WaitForPeers() {
    WaitUntil([&] { return ready_ == options_.teachers + 1; }, "not every simulated process could join");
  }

  template <typename Condition>
  void WaitUntil(Condition condition, const char* problem) {
    const auto deadline = Clock::now() + kPatience;
    while (!condition()) {
      Look();
      if (Clock::now() > deadline) throw Error(problem);
      std::this_thread::sleep_for(kGlance);
    }
  }

  void Measure(GeneratorPeer& generator, StatusProbe& probe, SimulationReport& report) {
    PeerThreads probing;
    if (options_.probe_ms > 0) {
      probing.Start([&](const std::stop_token& stop) { probe.Run(stop, options_.probe_ms); });
    }
    ProgressLine progress("simulated", options_.Samples(), kProgressSeconds);
    report.broker_start_bytes = broker_.ResidentBytes();
    const double broker_cpu = broker_.CpuSeconds(), own_cpu = OwnCpuSeconds();
    const auto start = Clock::now();
    generator.Run([&] {
      Look();
      probing.RequireWell();
      progress.Update(generator.ledger().came(), StrCat("step ", generator.landed(), " of ", options_.steps));
    });
    report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    report.broker_cpu_seconds = broker_.CpuSeconds() - broker_cpu;
    report.peers_cpu_seconds = OwnCpuSeconds() - own_cpu;
    report.broker_peak_bytes = broker_.PeakBytes();
    progress.Update(generator.ledger().came());
  }

  // Anything that makes it useless to go on.
  void Look() {
    if (stop_.now || stop_.in_order) throw Error("interrupted");
    broker_.RequireAlive();
    if (peers_) peers_->RequireWell();
  }

  void End() {
    const bool in_order = broker_.EndsWithin(kBrokersEnd);
    peers_.reset();
    if (!in_order) throw Error("the broker did not end with the run");
  }

  const SimulationOptions& options_;
  const StopRequests& stop_;
  SimulatedRun run_;
  BrokerProcess broker_;
  Ledger scored_;  // the fake score's
  HungLeases hung_;
  std::atomic<std::int64_t> ready_{0};
  std::optional<PeerThreads> peers_;  // go first
};

}  // namespace

SimulationReport Simulate(const SimulationOptions& options, const StopRequests& stop) {
  return Simulation(options, stop).Run();
}

}  // namespace sgmd
