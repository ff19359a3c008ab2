// What failpoints do to messages: lose, double, delay, reorder and damage them.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/failpoint/failpoint.h"

namespace sgmd {

/// The faults of one socket in one direction. `Message`: whatever is passed on. Not thread-safe.
template <typename Message>
class MessageFaults {
 public:
  struct Due {
    Message message;
    bool damaged = false;  // its checksum is to fail
  };

  explicit MessageFaults(failpoint::Place place) : place_(place) {}

  /// What is to be passed on in place of `message`, in this order. What is held back comes with a later message.
  std::vector<Due> Apply(Message message, std::string_view kind) {
    const auto now = std::chrono::steady_clock::now();
    std::vector<Due> due;
    const auto effect = failpoint::Hit(place_, kind);
    if (!effect) {
      due.push_back({std::move(message)});
    } else if (effect->action == failpoint::Action::kDouble) {
      due.push_back({message});
      due.push_back({std::move(message)});
    } else if (effect->action == failpoint::Action::kCorrupt) {
      due.push_back({std::move(message), true});
    } else if (effect->action == failpoint::Action::kDelay) {
      held_.emplace_back(now + std::chrono::milliseconds(effect->amount), std::move(message));
    } else if (effect->action == failpoint::Action::kReorder) {
      held_.emplace_back(now, std::move(message));  // behind the next one
      return due;
    }
    std::erase_if(held_, [&](auto& held) {
      if (held.first > now) return false;
      due.push_back({std::move(held.second)});
      return true;
    });
    return due;
  }

 private:
  failpoint::Place place_;
  std::vector<std::pair<std::chrono::steady_clock::time_point, Message>> held_;
};

}  // namespace sgmd
