#include "nodes/broker/checkpoint_gate.h"

#include "common/config/role.h"

namespace sgmd {

void CheckpointGate::Open() {
  std::erase_if(held_, [&](const message::CheckpointPart& part) {
    if (teachers_.OpenBefore(part.step)) return false;
    teachers_.SyncAnswers();
    members_.Post(Spell(Role::kGenerator), ToEnvelope(part));
    return true;
  });
}

}  // namespace sgmd
