#include "common/config/role.h"
#include "common/signals/signals.h"
#include "nodes/ring/follow.h"
#include "nodes/teacher/teacher_node.h"
#include "pipeline/training/teacher_group.h"

int main(int argc, char** argv) {
  const sgmd::StopRequests& stop = sgmd::ListenToSignals();
  return sgmd::RunRingNode(
      argc, argv, sgmd::Spell(sgmd::Role::kTeacher),
      "A frozen teacher: scores noised samples with classifier-free guidance.", [&](const sgmd::RingNode& node) {
        if (!node.follows()) return sgmd::RunTeacher(node, stop);
        return sgmd::Follow(node, [&] {
          return sgmd::TeacherGroup(node.plan.experiment, node.device, node.group, node.plan.topology.teacher.offload);
        });
      });
}
