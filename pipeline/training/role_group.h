// What the groups of ranks of both trained roles have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/digest/digest.h"
#include "pipeline/parallel/orders.h"
#include "pipeline/training/adamw.h"
#include "pipeline/training/group_reports.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// Every rank makes one, with the same experiment. Then rank 0 makes the calls, and the others Follow() them.
/// `TrainedRole`: Generator or FakeScore, which is one rank's part.
template <typename TrainedRole>
class RoleGroup {
 public:
  virtual ~RoleGroup() = default;

  /// Micro-batches that the group has at once.
  int round() const { return orders_.round(); }

  AdamW::StepReport Update() {
    Give(kUpdate);
    return role_.Update();
  }
  /// Files of all ranks, written into `folder`, with their digests.
  std::map<std::string, Digest> SaveState(const std::filesystem::path& folder) {
    Give(kSaveState, {}, {}, folder.string());
    return GatherDigests(orders_, folder, role_.SaveState(folder));
  }
  void LoadState(const std::filesystem::path& folder) {
    Give(kLoadState, {}, {}, folder.string());
    role_.LoadState(folder);
  }
  /// Of all ranks together.
  Work CountedWork() {
    Give(kCountedWork);
    return GatherWork(orders_, role_.work());
  }
  /// The others leave Follow().
  void End() { Give(kEnd); }

  /// By the ranks after 0: does what rank 0 does, until End(). Throws GroupLost when another rank is lost.
  void Follow() {
    for (Order order = orders_.Take(); order.what != kEnd; order = orders_.Take()) Do(order);
  }

 protected:
  /// Orders; those of a role begin at kOfRole.
  enum : std::int64_t { kUpdate, kSaveState, kLoadState, kCountedWork, kEnd, kOfRole };

  template <typename... Arguments>
  explicit RoleGroup(const RankGroup& group, const Arguments&... arguments)
      : orders_(group), role_(arguments..., group) {}

  void Give(std::int64_t what, std::vector<std::int64_t> numbers = {}, std::vector<std::int32_t> round = {},
            std::string text = {}) {
    orders_.Give({what, std::move(numbers), std::move(round), std::move(text)});
  }
  /// What this rank does of an order of the role. `index`: its micro-batch.
  virtual void DoOfRole(const Order& order, std::int32_t index) = 0;

  Orders orders_;
  TrainedRole role_;

 private:
  void Do(const Order& order) {
    if (order.what >= kOfRole) return DoOfRole(order, order.round[static_cast<std::size_t>(orders_.place())]);
    if (order.what == kUpdate) role_.Update();
    if (order.what == kSaveState) GatherDigests(orders_, order.text, role_.SaveState(order.text));
    if (order.what == kLoadState) role_.LoadState(order.text);
    if (order.what == kCountedWork) GatherWork(orders_, role_.work());
  }
};

}  // namespace sgmd
