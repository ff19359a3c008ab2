// The anchors of the diversity loss on their way from the broker.
#pragma once

#include <cstdint>
#include <map>

#include "common/config/experiment.h"
#include "common/messages/ring.h"
#include "common/transport/client.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/data/sample_plan.h"

namespace sgmd {

/// Asked for a step ahead: what an anchor is does not depend on the student, so teachers compute the next step's while
/// they would wait for the generator's update, and it is there when its step lands. Does nothing without the diversity
/// loss.
class Anchors {
 public:
  struct Arrived {
    AnchorPlan plan;
    message::ServedAnchor answer;
  };

  /// All references outlive it.
  Anchors(const Experiment& experiment, const PromptBank& bank, Client& client)
      : experiment_(experiment), bank_(bank), client_(client) {}

  /// Asks for the anchors of `step`, unless it did before or the run has no such step.
  void Ask(std::int64_t step);
  /// Keeps an answer that is waited for; drops any other, such as a second one. Throws Error when it does not have the
  /// shape of its noise.
  void Accept(message::ServedAnchor answer);
  bool Has(const message::Ticket& ticket) const { return arrived_.contains(ticket); }
  /// Has() must be true; no longer afterwards.
  Arrived Take(const message::Ticket& ticket);

 private:
  const Experiment& experiment_;
  const PromptBank& bank_;
  Client& client_;
  std::int64_t asked_up_to_ = -1;  // last step that was asked for; steps come in ascending order
  std::map<message::Ticket, AnchorPlan> asked_;
  std::map<message::Ticket, Arrived> arrived_;
};

}  // namespace sgmd
