#include <csignal>

#include "common/config/role.h"
#include "nodes/teacher/teacher_node.h"

namespace {

volatile bool stop_requested = false;

}  // namespace

int main(int argc, char** argv) {
  return sgmd::RunRingNode(argc, argv, sgmd::Spell(sgmd::Role::kTeacher),
                           "A frozen teacher: scores noised samples with classifier-free guidance.",
                           [](const sgmd::RingNode& node) {
                             std::signal(SIGTERM, [](int) { stop_requested = true; });
                             return sgmd::RunTeacher(node, stop_requested);
                           });
}
