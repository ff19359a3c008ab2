// What an answer store finds, for a caller that has no loop.
#pragma once

#include <poll.h>

#include <optional>

#include "nodes/broker/answer_store.h"

namespace sgmd {

/// Waits for it, for at most 10 s.
inline std::optional<TensorFrame> LookedUp(AnswerStore& store, const Digest& key) {
  constexpr int kPatienceMs = 10'000;
  if (!store.Lookup(0, key)) return {};
  pollfd event{store.found_event(), POLLIN, 0};
  ::poll(&event, 1, kPatienceMs);
  auto found = store.TakeFound();
  return found ? std::move(found->answer) : std::nullopt;
}

}  // namespace sgmd
