#include "nodes/fake_score/checkpoint_orders.h"

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::size_t kRemembered = 4;  // checkpoints: one is under way at a time, and a repetition comes soon

}  // namespace

CheckpointOrders::Parts CheckpointOrders::OnOrder(std::int64_t step, std::int64_t done) {
  if (const auto said = said_.find(step); said != said_.end()) return said->second;
  if (step < done)
    throw Error(StrCat("the order to checkpoint step ", step, " came after ", done, " inner loops were done"));
  ordered_.insert(step);
  return {};
}

void CheckpointOrders::Remember(Parts parts) {
  const std::int64_t step = parts.front().step;
  said_[step] = std::move(parts);
  if (said_.size() > kRemembered) said_.erase(said_.begin());
}

}  // namespace sgmd
