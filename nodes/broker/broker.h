// The hub of the ring: routes samples, leases them to teachers, keeps scores. The only process that binds sockets.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/config/topology.h"
#include "common/log/limited_log.h"
#include "common/metrics/pace.h"
#include "common/signals/signals.h"
#include "common/transport/peers.h"
#include "nodes/broker/checkpoint_gate.h"
#include "nodes/broker/launchers.h"
#include "nodes/broker/members.h"
#include "nodes/broker/metrics_page.h"
#include "nodes/broker/routes.h"
#include "nodes/broker/status.h"
#include "nodes/broker/teacher_service.h"

namespace sgmd {

/// One run; one loop thread that owns the sockets and the parts that it hands messages to. The gate lets in who shows a
/// key or the token of the run; a name must be one of that user; who may send what to whom is in routes.cc; all else is
/// dropped. What is done with a message that is not merely passed on:
///
///   message                on       done
///   Hello                  data     Welcome; or Refused: another run or epoch, unknown role, teacher of another model,
///                                   a trained role that another process has, a name of another user
///   Sample, AnchorRequest  data     answered from the store or by a teacher (TeacherService)
///   Score, Anchor          data     the reply goes to fake_score or generator
///   Credit, Leave          data     leases for this teacher, or its leases to others
///   CheckpointPart         data     to the generator, once earlier answers are safe (CheckpointGate)
///   Finished               data     Close to all; exit code 0 when all have it
///   Hello                  control  Welcome; a launcher is remembered
///   Beat                   control  it is alive
///   StatusRequest          control  Status
///   Drain                  control  to all nodes, at once and in answer to every later beat
///   Scale                  control  to the launchers of all hosts; Scaled to who asked
///   NodeExited             control  a teacher's leases go to others
///
/// A teacher that is silent or stalled (Members) loses its leases until it is well again. A trained role that is: the
/// launcher sees it in the status, and ends it.
class Broker {
 public:
  struct Options {
    std::uint64_t epoch = 0;  // messages of other epochs are dropped
    bool replay = false;      // serve from the cache alone; a miss fails the run
  };

  /// Binds both endpoints. Throws Error when one is in use, or when a replay finds nothing recorded.
  Broker(LaunchPlan plan, Options options);

  /// Until the generator has finished (0), or the run cannot go on or `stop.now` is set (1). It drains once
  /// `stop.in_order` is set. In every case the cache is flushed by the destructor.
  int Run(const StopRequests& stop);

 private:
  void ReadData();
  bool ServeFromStore();
  void OnData(const Server::Incoming& in);
  void DealWithData(const std::string& node, const Envelope& e);
  void OnControl(const Server::Incoming& in);
  void DealWithControl(const std::string& node, const Envelope& e);
  void OnHello(const Server::Incoming& in);
  std::string RefusalOf(const Server::Incoming& hello) const;
  bool IsOfUser(const Server::Incoming& in) const;
  void Drain();
  void TellToDrain(const std::string& pipe);
  void OnBeat(const Server::Incoming& in);
  void OnTick();
  void UpdateMetrics();
  void DeliverLastWords();
  void Fail(const std::string& why);
  std::string State() const;
  std::string StatusNow() const;

  LaunchPlan plan_;
  Options options_;
  NodeIdentity identity_;
  Gate gate_;
  Server data_, control_;
  Peers data_peers_, control_peers_;
  Members members_;
  Launchers launchers_;
  TeacherService teachers_;
  CheckpointGate checkpoints_;
  const TrainedWork forward_cost_;  // of one of theirs, in those of the teacher
  TrainedWork work_;
  Pace pace_;
  std::unique_ptr<MetricsPage> metrics_;  // where the topology wants one
  std::chrono::steady_clock::time_point next_metrics_{};
  LimitedLog log_;
  bool draining_ = false;
  std::optional<int> exit_code_;
};

}  // namespace sgmd
