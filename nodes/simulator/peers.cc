#include "nodes/simulator/peers.h"

#include <chrono>
#include <condition_variable>
#include <deque>

#include "common/config/role.h"
#include "common/metrics/work_count.h"

namespace sgmd {
namespace {

constexpr std::int64_t kCredit = 2;  // of nodes/teacher: one being computed, one on its way
constexpr std::chrono::milliseconds kPoll{200}, kNow{0};
constexpr double kForEverMs = 1e9;

}  // namespace

void Doze(const std::stop_token& stop, double ms) {
  if (ms <= 0) return;
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, std::chrono::duration<double, std::milli>(ms), [] { return false; });
}

Peer::Peer(const SimulatedRun& run, const std::string& node)
    : identity(run.NewProcess(node)),
      heartbeat(run.plan().topology.transport.control, identity, run.plan().topology.transport.beat_seconds),
      client(
          run.plan().topology.transport.data, identity,
          ToEnvelope(message::Hello{IsTeacher(node) ? ModelDigest(run.plan().experiment.model.teacher) : Digest{}})) {}

PeerThreads::~PeerThreads() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

void PeerThreads::Start(std::function<void(const std::stop_token&)> body) {
  threads_.emplace_back([this, body = std::move(body)](const std::stop_token& stop) {
    try {
      body(stop);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!trouble_) trouble_ = std::current_exception();
    }
  });
}

void PeerThreads::RequireWell() {
  const std::lock_guard lock(mutex_);
  if (trouble_) std::rethrow_exception(trouble_);
}

void HungLeases::Hangs(const message::Ticket& ticket) {
  const std::lock_guard lock(mutex_);
  hung_[{ticket.step, ticket.index}] = Clock::now();
}

void HungLeases::Given(const message::Ticket& ticket) {
  const std::lock_guard lock(mutex_);
  const auto since = hung_.extract({ticket.step, ticket.index});
  if (since) seconds_.push_back(std::chrono::duration<double>(Clock::now() - since.mapped()).count());
}

std::vector<double> HungLeases::seconds() const {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

void RunTeacherPeer(const SimulatedRun& run, const SimulationOptions& options, std::int64_t teacher, HungLeases& hung,
                    std::atomic<std::int64_t>& ready, const std::stop_token& stop) {
  Peer peer(run, Spell(NodeName{Role::kTeacher, static_cast<int>(teacher)}));
  peer.client.Send(ToEnvelope(message::Credit{kCredit}));
  ++ready;
  std::int64_t leases = 0;
  while (!stop.stop_requested()) {
    const auto message = peer.client.Receive(kPoll);
    if (!message) continue;
    if (message->kind == wire::Kind::Close) return;
    if (message->kind != wire::Kind::ScoreLease) continue;
    if (++leases == options.LastLease(teacher)) return;
    const auto lease = FromEnvelope<message::ScoreLease>(*message);
    hung.Given(lease.ticket);
    if (leases == options.HangsWith(teacher)) {
      hung.Hangs(lease.ticket);
      return Doze(stop, kForEverMs);
    }
    Doze(stop, options.TeacherMs(teacher));
    peer.client.Send(ToEnvelope(message::Score{lease.ticket, lease.lease, 1, lease.x_s}));
    peer.client.Send(ToEnvelope(message::Credit{1}));
    CountWork();
  }
}

void RunFakeScorePeer(const SimulatedRun& run, const SimulationOptions& options, Ledger& ledger,
                      std::atomic<std::int64_t>& ready, const std::stop_token& stop) {
  Peer peer(run, Spell(Role::kFakeScore));
  ++ready;
  std::deque<message::Sample> waiting;
  while (!stop.stop_requested()) {
    Doze(stop, options.reader_delay_ms);
    while (const auto message = peer.client.Receive(waiting.empty() ? kPoll : kNow)) {
      if (message->kind == wire::Kind::Close) return;
      if (message->kind != wire::Kind::ScoredSample) continue;
      const auto scored = FromEnvelope<message::ScoredSample>(*message);
      ledger.Came(scored.sample.ticket, SameBytes(scored.velocity, scored.sample.x_s));
      waiting.push_back(scored.sample);
      if (options.reader_delay_ms > 0) break;  // what it has not read stays with the broker
    }
    if (waiting.empty()) continue;
    Doze(stop, options.fake_score_ms);
    const message::Sample sample = std::move(waiting.front());
    waiting.pop_front();
    peer.client.Send(ToEnvelope(message::Gradient{sample.ticket, sample.version, false, {}, sample.x_g}));
    CountWork();
  }
}

}  // namespace sgmd
