#include "nodes/teacher/teacher_node.h"

#include "common/log/log.h"
#include "pipeline/training/roles.h"

namespace sgmd {
namespace {

constexpr int kCredit = 2;  // one being scored, one on its way
constexpr std::chrono::milliseconds kPoll{200};

Envelope CreditFor(int count) {
  Envelope credit;
  credit.kind = wire::Kind::Credit;
  credit.count = count;
  return credit;
}

Envelope Answer(const Envelope& lease, Teacher& teacher) {
  const double before = teacher.work().ForwardEquivalents();
  const at::Tensor velocity =
      teacher.Score(CopyToTensor(lease.At("x_s").view), CopyToTensor(lease.At("sigma").view),
                    PromptsFromTensor(CopyToTensor(lease.At("prompts").view)));
  Envelope score;
  score.kind = wire::Kind::Score;
  score.request_id = lease.request_id;
  score.attempt = lease.attempt;
  score.step = lease.step;
  score.index = lease.index;
  score.scalars = {{"forward_equivalents", teacher.work().ForwardEquivalents() - before}};
  score.tensors.push_back(ToFrame("velocity", velocity));
  return score;
}

}  // namespace

int RunTeacher(const RingNode& node, const volatile bool& stop) {
  Heartbeat heartbeat(node.plan.topology.control_endpoint, node.identity, node.plan.topology.beat_seconds);
  Teacher teacher(node.plan.experiment, node.device);
  Envelope hello;
  hello.digest = ModelDigest(node.plan.experiment.teacher);
  Client client = node.Connect(hello);
  client.Send(CreditFor(kCredit));
  LogInfo("ready on ", node.device.str());
  std::int64_t scored = 0;
  while (!stop) {
    const std::optional<Envelope> message = client.Receive(kPoll);
    if (!message) continue;
    if (message->kind == wire::Kind::Close) break;
    if (message->kind != wire::Kind::Lease) continue;
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
  LogInfo("scored ", scored, " micro-batches");
  return 0;
}

}  // namespace sgmd
