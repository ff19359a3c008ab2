// What the simulated processes send each other, and whether it all came back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/messages/ring.h"

namespace sgmd {

/// Micro-batches that are slices of one buffer of random numbers: each differs from every other (its prompts do, and so
/// does its key in the cache), and none is copied before it is sent.
class SampleSource {
 public:
  /// `sample_bytes`: of x_g and of x_s, a multiple of 4.
  SampleSource(std::int64_t sample_bytes, std::int64_t seed);

  /// x_g, x_s [1, 1, 1, 1, sample_bytes / 4]; sigma [1]; prompts [1, 16]. The same for the same ticket. Thread-safe.
  message::Sample Of(const message::Ticket& ticket) const;

 private:
  TensorFrame Slice(std::size_t begin) const;

  std::int64_t floats_;
  std::shared_ptr<const std::vector<float>> buffer_;
};

/// Whether two tensors have the same bytes.
bool SameBytes(const TensorFrame& a, const TensorFrame& b);

/// What was expected and what came. Owned by one thread.
class Ledger {
 public:
  void Expect(const message::Ticket& ticket);
  /// `right`: what came is what belongs to the ticket.
  void Came(const message::Ticket& ticket, bool right);

  std::int64_t expected() const { return expected_; }
  std::int64_t came() const { return came_; }
  /// Expected, and not come.
  std::int64_t open() const { return expected_ - came_; }
  std::int64_t OpenOf(std::int64_t step) const;
  /// Come again, or never expected.
  std::int64_t doubled() const { return doubled_; }
  std::int64_t wrong() const { return wrong_; }

 private:
  std::map<std::int64_t, std::set<std::int32_t>> open_;  // indices by step
  std::int64_t expected_ = 0, came_ = 0, doubled_ = 0, wrong_ = 0;
};

}  // namespace sgmd
