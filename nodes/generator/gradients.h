// The generator's samples that are on their way round the ring, and their gradients as they come back.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/messages/ring.h"
#include "pipeline/data/sample_plan.h"
#include "pipeline/training/generator_group.h"

namespace sgmd {

/// Keeps of a sample only the input of its exit step, which is run again when the gradient is there, and the graph of
/// that step where it is not run again.
class Gradients {
 public:
  struct Sample {
    SamplePlan plan;
    Generator::Exit exit;
    std::int64_t version = 0;  // updates done when it was rolled out
  };
  struct Arrived {
    Sample sample;
    message::Gradient answer;
  };

  /// `sample` was sent off, and a gradient will come under `ticket`. Once a ticket.
  void Expect(const message::Ticket& ticket, Sample sample) { in_flight_[ticket] = std::move(sample); }
  /// Keeps the first gradient of a sample that is on its way and drops any other. Throws Error when it does not have
  /// the shape of the sample.
  void Accept(message::Gradient gradient);
  bool Has(const message::Ticket& ticket) const { return arrived_.contains(ticket); }
  /// Has() must be true; no longer afterwards.
  Arrived Take(const message::Ticket& ticket);

  /// Micro-batches of `step` whose gradients are here and were not taken, ascending.
  std::vector<std::int32_t> Of(std::int64_t step) const;
  /// No further gradient of `step` is waited for.
  void Forget(std::int64_t step);

  /// Samples that were not taken yet.
  std::size_t in_flight() const { return in_flight_.size(); }

 private:
  std::map<message::Ticket, Sample> in_flight_;
  std::map<message::Ticket, message::Gradient> arrived_;
};

}  // namespace sgmd
