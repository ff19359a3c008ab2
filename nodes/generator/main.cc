#include "common/config/role.h"
#include "common/signals/signals.h"
#include "nodes/generator/generator_node.h"
#include "nodes/ring/follow.h"

int main(int argc, char** argv) {
  const sgmd::StopRequests& stop = sgmd::ListenToSignals();
  return sgmd::RunRingNode(argc, argv, sgmd::Spell(sgmd::Role::kGenerator),
                           "The generator: the student that is trained.", [&](const sgmd::RingNode& node) {
                             if (!node.follows()) return sgmd::GeneratorNode(node).Run(stop);
                             return sgmd::Follow(node, [&] {
                               return sgmd::GeneratorGroup(node.plan.experiment, node.device,
                                                           sgmd::RecomputationOf(node.plan.topology.generator),
                                                           node.group);
                             });
                           });
}
