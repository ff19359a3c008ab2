// What the fake score does next where it has a pace of its own ([inner] pace = free).
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

namespace sgmd {

/// A thing that the fake score does in a step, and that decides the weights by its place among the others.
struct PaceEvent {
  enum class Kind { kUpdate, kGradient };
  Kind kind = Kind::kUpdate;
  std::int64_t number = 0;  // kUpdate: the newest step whose samples it may draw; kGradient: the micro-batch
  auto operator<=>(const PaceEvent&) const = default;
};

/// In step k, with `gradients` of its micro-batches given and `updates` made:
///
///   a gradient is given   <=>  a scored sample of the step is here, and gradients < land
///   an update is made     <=>  no gradient can be given, samples to learn are here,
///                              and updates < (gradients < land ? max : min)
///   the step is over      <=>  gradients = land and updates >= min
///
/// So the generator never waits for an update that could wait for it, and the fake score learns while the teachers
/// score: what it learns from needs no teacher.
struct InnerPace {
  std::int64_t land = 1;          // 1 to micro-batches of a step
  std::int64_t min = 0, max = 4;  // updates in a step

  struct Situation {
    std::optional<std::int64_t> scored;  // a micro-batch whose gradient can be given
    std::optional<std::int64_t>
        newest;  // the newest step all of whose samples are here; nothing until the first sample
                 // of step k is here: before that a checkpoint of k may be ordered
    std::int64_t gradients = 0, updates = 0;
  };

  bool Over(const Situation& s) const { return s.gradients == land && s.updates >= min; }

  std::optional<PaceEvent> Next(const Situation& s) const {
    if (s.scored && s.gradients < land) return PaceEvent{PaceEvent::Kind::kGradient, *s.scored};
    if (s.newest && s.updates < (s.gradients < land ? max : min)) return PaceEvent{PaceEvent::Kind::kUpdate, *s.newest};
    return {};
  }
};

}  // namespace sgmd
