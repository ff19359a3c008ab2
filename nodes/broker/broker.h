// The hub of the ring: routes samples, leases them to teachers, keeps scores. The only process that binds sockets.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "common/config/topology.h"
#include "common/transport/server.h"
#include "nodes/broker/dispatcher.h"
#include "nodes/broker/score_cache.h"

namespace sgmd {

/// One run, one loop thread that owns sockets, dispatcher and cache.
class Broker {
 public:
  struct Options {
    std::uint64_t epoch = 0;  // messages of other epochs are dropped
    bool replay = false;      // serve from the cache alone; a miss fails the run
  };

  /// Binds both endpoints. Throws Error when one is in use, or when a replay finds nothing recorded.
  Broker(LaunchPlan plan, Options options);

  /// Until the generator has finished (0), or the run cannot go on or `stop` becomes true by a signal (1).
  int Run(const volatile bool& stop);

 private:
  using Time = Dispatcher::Time;
  struct Node {
    bool joined = false, alive = true;
    Time last_beat;
    std::int64_t progress = 0;
    std::map<std::string, double> scalars;
  };
  struct Pending {
    Envelope sample;
    Digest key;
  };

  void OnData(const Server::Incoming& in);
  void OnHello(const Server::Incoming& in);
  void OnSample(const Envelope& sample);
  void OnScore(const Envelope& score);
  void OnControl(const Server::Incoming& in);
  void OnStatusRequest(const std::string& peer);
  void OnTick();

  bool Mine(const Envelope& envelope) const;
  Envelope Make(wire::Kind kind, std::string text = {}) const;
  void Forward(const std::string& peer, const Envelope& envelope);
  void ForwardScored(const Envelope& sample, const TensorFrame& velocity, bool cache_hit);
  void GrantLeases();
  void LoseTeacher(const std::string& teacher, const std::string& why);
  void Finish(wire::Kind kind, const std::string& text, int exit_code);
  void LogSummary() const;
  std::uint64_t TicketOf(const Envelope& sample) const;

  LaunchPlan plan_;
  Options options_;
  Digest run_id_;
  ScorerFingerprint scorer_;
  std::optional<ScoreCache> cache_;
  Server data_, control_;
  Dispatcher dispatcher_;
  std::map<std::string, Node> nodes_;
  std::map<std::string, std::deque<Envelope>> outbox_;  // for roles that have not joined yet
  std::map<std::uint64_t, Pending> pending_;            // samples without a score, by ticket
  std::int64_t samples_ = 0;
  double generator_work_ = 0, fake_score_work_ = 0, teacher_work_ = 0;  // forward-equivalents since the start
  std::optional<int> exit_code_;
};

}  // namespace sgmd
