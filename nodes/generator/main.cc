#include "common/config/role.h"
#include "common/signals/signals.h"
#include "nodes/generator/generator_node.h"

int main(int argc, char** argv) {
  const sgmd::StopRequests& stop = sgmd::ListenToSignals();
  return sgmd::RunRingNode(argc, argv, sgmd::Spell(sgmd::Role::kGenerator),
                           "The generator: the student that is trained.", [&](const sgmd::RingNode& node) {
                             return node.follows() ? sgmd::FollowGenerator(node) : sgmd::GeneratorNode(node).Run(stop);
                           });
}
