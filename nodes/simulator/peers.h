// The processes around the broker, as threads that sleep where the real ones compute.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/messages/life.h"
#include "common/messages/ring.h"
#include "common/transport/client.h"
#include "common/transport/heartbeat.h"
#include "nodes/simulator/options.h"
#include "nodes/simulator/samples.h"
#include "nodes/simulator/simulated_run.h"

namespace sgmd {

/// Sleeps for `ms`; less where `stop` is requested meanwhile.
void Doze(const std::stop_token& stop, double ms);

/// One simulated process: its signs of life and its connection to the broker, both under an identity of its own.
struct Peer {
  /// Blocks until the broker has welcomed it. Throws Error as Client does.
  Peer(const SimulatedRun& run, const std::string& node);

  NodeIdentity identity;
  Heartbeat heartbeat;
  Client client;
};

/// Threads that are asked to stop and waited for when this object goes.
class PeerThreads {
 public:
  ~PeerThreads();

  void Start(std::function<void(const std::stop_token&)> body);
  /// Throws what the body of a thread has thrown, the first of them.
  void RequireWell();

 private:
  std::mutex mutex_;
  std::exception_ptr trouble_;
  std::vector<std::jthread> threads_;
};

/// What teachers that hang have in hand, until another teacher gets it. Thread-safe.
class HungLeases {
 public:
  void Hangs(const message::Ticket& ticket);
  /// A teacher was given this one; whether anybody hangs with it is for this class to know.
  void Given(const message::Ticket& ticket);
  /// From when each hung until another teacher had its lease.
  std::vector<double> seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  mutable std::mutex mutex_;
  std::map<std::pair<std::int64_t, std::int32_t>, Clock::time_point> hung_;  // by step and index
  std::vector<double> seconds_;
};

/// Teacher number `teacher`: holds two leases, as the real one does, and gives each x_s back as its velocity. Until the
/// broker closes the run, or its last lease: then it vanishes as a process does that is killed. Counts in `ready` when
/// it has asked for work.
void RunTeacherPeer(const SimulatedRun& run, const SimulationOptions& options, std::int64_t teacher, HungLeases& hung,
                    std::atomic<std::int64_t>& ready, const std::stop_token& stop);

/// The fake score: gives each x_g back as its gradient. `ledger`, its own until it ends, expects every micro-batch of
/// the run; a scored sample is right when its velocity is its x_s.
void RunFakeScorePeer(const SimulatedRun& run, const SimulationOptions& options, Ledger& ledger,
                      std::atomic<std::int64_t>& ready, const std::stop_token& stop);

}  // namespace sgmd
