#include "common/config/role.h"
#include "nodes/generator/generator_node.h"

int main(int argc, char** argv) {
  return sgmd::RunRingNode(argc, argv, sgmd::Spell(sgmd::Role::kGenerator),
                           "The generator: the student that is trained.",
                           [](const sgmd::RingNode& node) { return sgmd::GeneratorNode(node).Run(); });
}
