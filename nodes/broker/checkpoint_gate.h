// What a checkpoint waits for before it may be committed.
#pragma once

#include <optional>
#include <vector>

#include "common/messages/life.h"
#include "nodes/broker/members.h"
#include "nodes/broker/teacher_service.h"

namespace sgmd {

/// Holds the fake score's parts of a checkpoint until every answer of earlier steps is safe on disk. The fake score is
/// done with a step when it has the scores; the step's anchors may still be with a teacher, and the checkpoint must not
/// be committed without them: the resumed run would not ask for them again, and no replay would find them.
class CheckpointGate {
 public:
  /// Both outlive it.
  CheckpointGate(TeacherService& teachers, Members& members) : teachers_(teachers), members_(members) {}

  void Hold(const message::CheckpointPart& part) { held_.push_back({part, {}}); }
  /// Sends the generator the parts that need not wait any longer: once in every round of the broker's loop.
  void Open();
  bool holds() const { return !held_.empty(); }

 private:
  struct Held {
    message::CheckpointPart part;
    std::optional<std::uint64_t> safety;  // the request for it, made when all earlier answers had come
  };
  bool MayPass(Held& held);

  TeacherService& teachers_;
  Members& members_;
  std::vector<Held> held_;
};

}  // namespace sgmd
