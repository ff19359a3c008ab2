#include "common/config/role.h"
#include "common/signals/signals.h"
#include "nodes/fake_score/fake_score_node.h"
#include "nodes/ring/follow.h"

int main(int argc, char** argv) {
  const sgmd::StopRequests& stop = sgmd::ListenToSignals();
  return sgmd::RunRingNode(argc, argv, sgmd::Spell(sgmd::Role::kFakeScore),
                           "The fake score: the generator's gradient and the model of the student's own distribution.",
                           [&](const sgmd::RingNode& node) {
                             if (!node.follows()) return sgmd::FakeScoreNode(node).Run(stop);
                             return sgmd::Follow(node, [&] {
                               return sgmd::FakeScoreGroup(node.plan.experiment, node.device,
                                                           sgmd::RecomputationOf(node.plan.topology.fake_score),
                                                           node.group);
                             });
                           });
}
