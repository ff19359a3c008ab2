#include "nodes/teacher/teacher_node.h"

#include <limits>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/messages/ring.h"
#include "nodes/ring/frames.h"
#include "pipeline/training/teacher.h"

namespace sgmd {
namespace {

constexpr int kCredit = 2;  // one being computed, one on its way
constexpr std::chrono::milliseconds kPoll{200};

// `answer`, or no number at all where a test wants that.
at::Tensor Answered(at::Tensor answer) {
  if (failpoint::Hit("teacher.score")) answer.fill_(std::numeric_limits<float>::quiet_NaN());
  return answer;
}

message::Score ScoreFor(const message::ScoreLease& lease, Teacher& teacher) {
  const at::Tensor velocity =
      Answered(teacher.Score(ToTensor(lease.x_s), ToTensor(lease.sigma), PromptsFromFrame(lease.prompts)));
  return {lease.ticket, lease.lease, 0, ToFrame(velocity)};
}

message::Anchor AnchorFor(const message::AnchorLease& lease, Teacher& teacher) {
  const at::Tensor x_a =
      Answered(teacher.Anchor(ToTensor(lease.request.noise), PromptsFromFrame(lease.request.prompts)));
  return {lease.request.ticket, lease.lease, 0, ToFrame(x_a)};
}

// The answer of `compute`, with what it cost.
template <typename Lease, typename Compute>
Envelope Answer(const Envelope& lease, Teacher& teacher, Compute compute) {
  const double before = teacher.work().ForwardEquivalents();
  auto answer = compute(FromEnvelope<Lease>(lease), teacher);
  answer.forward_equivalents = teacher.work().ForwardEquivalents() - before;
  return ToEnvelope(answer);
}

}  // namespace

int RunTeacher(const RingNode& node, const volatile bool& stop) {
  Heartbeat heartbeat(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds);
  Teacher teacher(node.plan.experiment, node.device);
  Client client = node.Connect({ModelDigest(node.plan.experiment.model.teacher)});
  client.Send(ToEnvelope(message::Credit{kCredit}));
  LogInfo("ready on ", node.device.str());
  std::int64_t scored = 0;
  while (!stop) {
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
    heartbeat.Progress();
    heartbeat.Report({{"scored", static_cast<double>(++scored)}});
  }
  if (stop) client.Send(ToEnvelope(message::Leave{}));
  LogInfo("answered for ", scored, " micro-batches");
  return 0;
}

}  // namespace sgmd
