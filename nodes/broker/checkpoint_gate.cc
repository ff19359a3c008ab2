#include "nodes/broker/checkpoint_gate.h"

#include "common/config/role.h"

namespace sgmd {

bool CheckpointGate::MayPass(Held& held) {
  if (!held.safety) {
    if (teachers_.OpenBefore(held.part.step)) return false;
    held.safety = teachers_.RequestSafety();
  }
  return teachers_.AreSafe(*held.safety);
}

void CheckpointGate::Open() {
  std::erase_if(held_, [&](Held& held) {
    if (!MayPass(held)) return false;
    members_.Post(Spell(Role::kGenerator), ToEnvelope(held.part));
    return true;
  });
}

}  // namespace sgmd
