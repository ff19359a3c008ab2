// The hub of the ring: routes samples, leases them to teachers, keeps scores. The only process that binds sockets.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "common/transport/server.h"
#include "nodes/broker/dispatcher.h"
#include "nodes/broker/teacher_scores.h"

namespace sgmd {

/// One run, one loop thread that owns sockets, dispatcher and cache. What it does with a message:
///
///   from        message         done
///   any node    Hello           Welcome; or Refused: other run or epoch, unknown role, teacher of another model, a
///                               trained role that another process has. All else from a node that is not welcome is
///                               dropped.
///   generator   Sample          ScoredSample to fake_score: from the cache, or after Lease to a teacher and its Score
///   generator   AnchorRequest   Anchor to generator: from the cache, or after AnchorLease to a teacher and its Anchor
///   generator   InnerSample     to fake_score
///   generator   CheckpointPart  to fake_score
///   generator   Finished        Close to all; exit code 0
///   fake_score  Gradient        to generator
///   fake_score  CheckpointPart  to generator, once every score and anchor of earlier steps is safe on disk
///   teacher.N   Credit          leases
///   teacher.N   Score, Anchor   the first valid answer fills the slot of its request, later ones are dropped; one of
///                               the wrong kind, dtype or shape sends the teacher away and its leases go to others
///   teacher.N   Leave           its leases go to others
///
/// On the control socket: Beat, StatusRequest, Drain (to the generator), NodeExited (a teacher's leases go to others),
/// Scale (to the launchers of all hosts), RoleFailed (to the launcher of this host).
///
/// A trained role that is silent for silence_seconds fails the run (Failed to all; exit code 1); a silent teacher loses
/// its leases until it is heard again.
class Broker {
 public:
  struct Options {
    std::uint64_t epoch = 0;  // messages of other epochs are dropped
    bool replay = false;      // serve from the cache alone; a miss fails the run
  };

  /// Binds both endpoints. Throws Error when one is in use, or when a replay finds nothing recorded.
  Broker(LaunchPlan plan, Options options);

  /// Until the generator has finished (0), or the run cannot go on or `stop` becomes true by a signal (1). In every
  /// case the cache is flushed by the destructor.
  int Run(const volatile bool& stop);

 private:
  using Time = Dispatcher::Time;
  struct Node {
    std::uint64_t process = 0;  // which process said Hello
    bool joined = false;        // its Hello was accepted, and it has not left since
    bool alive = true;          // heard of within silence_seconds
    Time last_beat = std::chrono::steady_clock::now();
    std::int64_t progress = 0;
    std::map<std::string, double> scalars;
    std::deque<Envelope> outbox;  // waits until it has joined and its connection takes more
  };
  struct Pending {
    Envelope request;  // a Sample or an AnchorRequest
    Digest key;
  };
  struct Served {
    std::int64_t asked = 0, cached = 0;  // micro-batches
    double work = 0;                     // of teachers, forward-equivalents since the start
  };

  // Data socket (broker.cc).
  void OnData(const Server::Incoming& in);
  void OnHello(const Server::Incoming& in);
  std::string RefusalOf(const Server::Incoming& hello) const;
  void Forward(const std::string& peer, const Envelope& envelope);
  void SendWaiting(const std::string& peer, Node& node);

  // Work for teachers (broker_work.cc).
  void OnRequest(const Envelope& request);
  void OnAnswer(const std::string& teacher, const Envelope& answer);
  void Reply(const Envelope& request, TensorFrame result, bool cache_hit);
  void GrantLeases();
  void OnCheckpointPart(const Envelope& part);
  void ForwardParts();
  bool IsWhole(const Envelope& request) const;
  Digest KeyOf(const Envelope& request) const;
  std::uint64_t TicketOf(const Envelope& request) const;

  // Who is there, control socket, status (broker_control.cc).
  void OnControl(const Server::Incoming& in);
  void OnLauncher(const std::string& peer);
  void OnScale(const Server::Incoming& in);
  void OnBeat(const std::string& peer, const Envelope& beat);
  void OnTick();
  void SuspendTeacher(const std::string& teacher, const std::string& why);
  void LoseTeacher(const std::string& teacher, const std::string& why);
  std::string StatusText() const;
  void LogSummary() const;

  bool Mine(const Envelope& envelope) const;
  std::string Strangeness(const Envelope& envelope) const;  // of one that is not Mine, in words
  Envelope Make(wire::Kind kind, std::string text = {}) const;
  void Finish(wire::Kind kind, const std::string& text, int exit_code);

  LaunchPlan plan_;
  Options options_;
  Digest run_id_;
  ScorerFingerprint scorer_;
  std::unique_ptr<TeacherScores> scores_;
  std::unique_ptr<CurveGate> gate_;  // of an encrypted run
  Server data_, control_;
  Dispatcher dispatcher_;
  std::map<std::string, Node> nodes_;
  std::map<std::uint64_t, Pending> pending_;  // requests without an answer, by ticket
  std::vector<Envelope> held_parts_;  // of the fake score's checkpoints, until answers of earlier steps are on disk
  Served samples_, anchors_;
  double generator_work_ = 0, fake_score_work_ = 0;  // forward-equivalents since the start
  bool draining_ = false;
  std::set<std::string> launchers_;  // of the hosts that have joined
  int teachers_wanted_ = 0;          // by the last Scale; 0: none came
  std::optional<int> exit_code_;
};

}  // namespace sgmd
