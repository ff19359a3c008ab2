#include "nodes/teacher/teacher_node.h"

#include "common/log/log.h"
#include "pipeline/training/teacher.h"

namespace sgmd {
namespace {

constexpr int kCredit = 2;  // one being computed, one on its way
constexpr std::chrono::milliseconds kPoll{200};

Envelope CreditFor(int count) {
  Envelope credit;
  credit.kind = wire::Kind::Credit;
  credit.count = count;
  return credit;
}

std::vector<Digest> PromptsOf(const Envelope& lease) {
  return PromptsFromTensor(CopyToTensor(lease.At("prompts").view));
}

TensorFrame Score(const Envelope& lease, Teacher& teacher) {
  return ToFrame("velocity", teacher.Score(CopyToTensor(lease.At("x_s").view), CopyToTensor(lease.At("sigma").view),
                                           PromptsOf(lease)));
}

TensorFrame Anchor(const Envelope& lease, Teacher& teacher) {
  return ToFrame("x_a", teacher.Anchor(CopyToTensor(lease.At("noise").view), PromptsOf(lease)));
}

Envelope Answer(const Envelope& lease, Teacher& teacher) {
  const bool anchor = lease.kind == wire::Kind::AnchorLease;
  const double before = teacher.work().ForwardEquivalents();
  Envelope answer;
  answer.kind = anchor ? wire::Kind::Anchor : wire::Kind::Score;
  answer.request_id = lease.request_id;
  answer.attempt = lease.attempt;
  answer.step = lease.step;
  answer.index = lease.index;
  answer.tensors.push_back(anchor ? Anchor(lease, teacher) : Score(lease, teacher));
  answer.scalars = {{"forward_equivalents", teacher.work().ForwardEquivalents() - before}};
  return answer;
}

}  // namespace

int RunTeacher(const RingNode& node, const volatile bool& stop) {
  Heartbeat heartbeat(node.plan.topology.transport.control, node.identity, node.plan.topology.transport.beat_seconds);
  Teacher teacher(node.plan.experiment, node.device);
  Envelope hello;
  hello.digest = ModelDigest(node.plan.experiment.model.teacher);
  Client client = node.Connect(hello);
  client.Send(CreditFor(kCredit));
  LogInfo("ready on ", node.device.str());
  std::int64_t scored = 0;
  while (!stop) {
    const std::optional<Envelope> message = client.Receive(kPoll);
    if (!message) continue;
    if (message->kind == wire::Kind::Close) break;
    if (message->kind != wire::Kind::Lease && message->kind != wire::Kind::AnchorLease) continue;
    client.Send(Answer(*message, teacher));
    client.Send(CreditFor(1));
    heartbeat.Progress();
    heartbeat.Report({{"scored", static_cast<double>(++scored)}});
  }
  if (stop) {
    Envelope leave;
    leave.kind = wire::Kind::Leave;
    client.Send(leave);
  }
  LogInfo("answered for ", scored, " micro-batches");
  return 0;
}

}  // namespace sgmd
