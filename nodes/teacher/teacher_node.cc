#include "nodes/teacher/teacher_node.h"

#include <algorithm>
#include <deque>
#include <limits>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/messages/ring.h"
#include "common/metrics/work_count.h"
#include "common/trace/trace.h"
#include "nodes/ring/frames.h"
#include "pipeline/training/teacher_group.h"

namespace sgmd {
namespace {

constexpr std::int64_t kRounds = 2;  // of leases at once: one being computed, one on its way
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{200}, kNoWait{0};
constexpr std::chrono::seconds kNotice{2};  // in which the broker may say that the run drains

// `answer`, or no number at all where a test wants that.
at::Tensor Answered(at::Tensor answer) {
  if (failpoint::Hit("teacher.score")) answer.fill_(std::numeric_limits<float>::quiet_NaN());
  return answer;
}

TeacherGroup::Asked AskedBy(const message::ScoreLease& lease) {
  return {ToTensor(lease.x_s), ToTensor(lease.sigma), PromptsFromFrame(lease.prompts)};
}
TeacherGroup::Asked AskedBy(const message::AnchorLease& lease) {
  return {ToTensor(lease.request.noise), {}, PromptsFromFrame(lease.request.prompts)};
}
message::Ticket TicketOf(const message::ScoreLease& lease) { return lease.ticket; }
message::Ticket TicketOf(const message::AnchorLease& lease) { return lease.request.ticket; }

// Leases of one kind, as many as the group answers at once.
template <typename Lease, typename Reply, typename Compute>
std::vector<Envelope> Answer(const char* what, const std::vector<Envelope>& round, TeacherGroup& teacher,
                             Compute compute) {
  std::vector<Lease> leases;
  std::vector<TeacherGroup::Asked> asked;
  for (const Envelope& envelope : round) asked.push_back(AskedBy(leases.emplace_back(FromEnvelope<Lease>(envelope))));
  const trace::Span span(what, {TicketOf(leases.front()).step, TicketOf(leases.front()).index});
  const double before = teacher.work().ForwardEquivalents();
  const std::vector<at::Tensor> answers = (teacher.*compute)(asked);
  const double each = teacher.work().ForwardEquivalents() - before;
  std::vector<Envelope> replies;
  for (std::size_t i = 0; i < leases.size(); ++i)
    replies.push_back(ToEnvelope(Reply{TicketOf(leases[i]), leases[i].lease, each, ToFrame(Answered(answers[i]))}));
  return replies;
}

std::vector<Envelope> Answer(const std::vector<Envelope>& round, TeacherGroup& teacher) {
  if (round.front().kind == wire::Kind::AnchorLease)
    return Answer<message::AnchorLease, message::Anchor>("anchor", round, teacher, &TeacherGroup::Anchor);
  return Answer<message::ScoreLease, message::Score>("score", round, teacher, &TeacherGroup::Score);
}

// What has come and is not answered. The micro-batches of a step come one after the other: a group that has few waits
// for more, for a small share of the time that a round takes whether it is full or not.
class Leases {
 public:
  explicit Leases(std::size_t round) : round_(round) {}

  void Add(Envelope lease) {
    if (waiting_.empty()) since_ = Clock::now();
    waiting_.push_back(std::move(lease));
  }
  bool Due() const { return waiting_.size() >= round_ || (!waiting_.empty() && Clock::now() >= since_ + patience_); }
  // How long to listen for more.
  std::chrono::milliseconds Patience() const {
    if (waiting_.empty()) return kPoll;
    return std::max(std::chrono::ceil<std::chrono::milliseconds>(since_ + patience_ - Clock::now()), kNoWait);
  }
  void OnRound(Clock::duration took) {
    patience_ = took / 10;
    since_ = Clock::now();
  }
  // The oldest one and those of its kind that a group answers with it.
  std::vector<Envelope> TakeRound() {
    std::vector<Envelope> round;
    const wire::Kind kind = waiting_.front().kind;
    for (auto lease = waiting_.begin(); lease != waiting_.end() && round.size() < round_;) {
      if (lease->kind == kind) {
        round.push_back(std::move(*lease));
        lease = waiting_.erase(lease);
      } else {
        ++lease;
      }
    }
    return round;
  }

 private:
  std::size_t round_;
  std::deque<Envelope> waiting_;
  Clock::time_point since_;
  Clock::duration patience_{};
};

// When a teacher that was asked to end is to leave its run.
class Departure {
 public:
  explicit Departure(const StopRequests& stop) : stop_(stop) {}

  bool Due(const Heartbeat& heartbeat) {
    if (stop_.in_order) at_ = std::min(at_, Clock::now() + kNotice);
    return Clock::now() >= at_ && !heartbeat.drain_requested();
  }

 private:
  const StopRequests& stop_;
  Clock::time_point at_ = Clock::time_point::max();  // never, until it was asked
};

}  // namespace

int RunTeacher(const RingNode& node, const StopRequests& stop) {
  Heartbeat heartbeat(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds);
  TeacherGroup teacher(node.plan.experiment, node.device, node.group, node.plan.topology.teacher.offload);
  Client client = node.Connect({ModelDigest(node.plan.experiment.model.teacher)});
  client.Send(ToEnvelope(message::Credit{kRounds * static_cast<std::int64_t>(teacher.round())}));
  LogInfo("ready on ", node.device.str());
  std::int64_t scored = 0;
  Leases leases(teacher.round());
  Departure departure(stop);
  while (true) {
    if (departure.Due(heartbeat)) {
      client.Send(ToEnvelope(message::Leave{}));
      break;
    }
    if (std::optional<Envelope> message = client.Receive(leases.Patience())) {
      if (message->kind == wire::Kind::Close) break;
      if (message->kind == wire::Kind::ScoreLease || message->kind == wire::Kind::AnchorLease)
        leases.Add(std::move(*message));
    }
    if (!leases.Due()) continue;
    const Clock::time_point start = Clock::now();
    for (Envelope& answer : Answer(leases.TakeRound(), teacher)) {
      client.Send(std::move(answer));
      client.Send(ToEnvelope(message::Credit{1}));
      CountWork();
      ++scored;
    }
    leases.OnRound(Clock::now() - start);
    heartbeat.Report({{"scored", static_cast<double>(scored)}});
  }
  teacher.End();
  LogInfo("answered for ", scored, " micro-batches");
  return 0;
}

}  // namespace sgmd
