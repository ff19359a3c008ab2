#include "nodes/generator/generator_node.h"

int main(int argc, char** argv) {
  return sgmd::RunRingNode(argc, argv, "generator", "The generator: the student that is trained.",
                           [](const sgmd::RingNode& node) { return sgmd::GeneratorNode(node).Run(); });
}
