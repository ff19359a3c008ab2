#include "nodes/teacher/teacher_node.h"

#include <algorithm>
#include <limits>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/messages/ring.h"
#include "common/metrics/work_count.h"
#include "common/trace/trace.h"
#include "nodes/ring/frames.h"
#include "pipeline/training/teacher.h"

namespace sgmd {
namespace {

constexpr int kCredit = 2;  // one being computed, one on its way
constexpr std::chrono::milliseconds kPoll{200};
constexpr std::chrono::seconds kNotice{2};  // in which the broker may say that the run drains

// `answer`, or no number at all where a test wants that.
at::Tensor Answered(at::Tensor answer) {
  if (failpoint::Hit("teacher.score")) answer.fill_(std::numeric_limits<float>::quiet_NaN());
  return answer;
}

message::Score ScoreFor(const message::ScoreLease& lease, Teacher& teacher) {
  const trace::Span span("score", {lease.ticket.step, lease.ticket.index});
  const at::Tensor velocity =
      Answered(teacher.Score(ToTensor(lease.x_s), ToTensor(lease.sigma), PromptsFromFrame(lease.prompts)));
  return {lease.ticket, lease.lease, 0, ToFrame(velocity)};
}

message::Anchor AnchorFor(const message::AnchorLease& lease, Teacher& teacher) {
  const trace::Span span("anchor", {lease.request.ticket.step, lease.request.ticket.index});
  const at::Tensor x_a =
      Answered(teacher.Anchor(ToTensor(lease.request.noise), PromptsFromFrame(lease.request.prompts)));
  return {lease.request.ticket, lease.lease, 0, ToFrame(x_a)};
}

// When a teacher that was asked to end is to leave its run.
class Departure {
 public:
  explicit Departure(const StopRequests& stop) : stop_(stop) {}

  bool Due(const Heartbeat& heartbeat) {
    if (stop_.in_order) at_ = std::min(at_, Clock::now() + kNotice);
    return Clock::now() >= at_ && !heartbeat.drain_requested();
  }

 private:
  using Clock = std::chrono::steady_clock;
  const StopRequests& stop_;
  Clock::time_point at_ = Clock::time_point::max();  // never, until it was asked
};

// The answer of `compute`, with what it cost.
template <typename Lease, typename Compute>
Envelope Answer(const Envelope& lease, Teacher& teacher, Compute compute) {
  const double before = teacher.work().ForwardEquivalents();
  auto answer = compute(FromEnvelope<Lease>(lease), teacher);
  answer.forward_equivalents = teacher.work().ForwardEquivalents() - before;
  return ToEnvelope(answer);
}

}  // namespace

int RunTeacher(const RingNode& node, const StopRequests& stop) {
  Heartbeat heartbeat(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds);
  Teacher teacher(node.plan.experiment, node.device);
  Client client = node.Connect({ModelDigest(node.plan.experiment.model.teacher)});
  client.Send(ToEnvelope(message::Credit{kCredit}));
  LogInfo("ready on ", node.device.str());
  std::int64_t scored = 0;
  Departure departure(stop);
  while (true) {
    if (departure.Due(heartbeat)) {
      client.Send(ToEnvelope(message::Leave{}));
      break;
    }
    const std::optional<Envelope> message = client.Receive(kPoll);
    if (!message) continue;
    if (message->kind == wire::Kind::Close) break;
    if (message->kind == wire::Kind::ScoreLease) {
      client.Send(Answer<message::ScoreLease>(*message, teacher, ScoreFor));
    } else if (message->kind == wire::Kind::AnchorLease) {
      client.Send(Answer<message::AnchorLease>(*message, teacher, AnchorFor));
    } else {
      continue;
    }
    client.Send(ToEnvelope(message::Credit{1}));
    CountWork();
    heartbeat.Report({{"scored", static_cast<double>(++scored)}});
  }
  LogInfo("answered for ", scored, " micro-batches");
  return 0;
}

}  // namespace sgmd
