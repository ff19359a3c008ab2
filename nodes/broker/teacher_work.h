// What teachers are asked for: a table with a row for each kind of work. Everything else in the broker is the same for
// all.
#pragma once

#include <vector>

#include "common/messages/ring.h"

namespace sgmd {

/// A request as the broker needs it.
struct WorkRequest {
  message::Ticket ticket;
  std::vector<std::int64_t> shape;  // of the latent that it is about
  Envelope lease;                   // for a teacher; whoever sends it sets request_id and attempt
};

/// What a teacher found.
struct WorkResult {
  TensorFrame tensor;
  double forward_equivalents = 0;  // work that it took
};

/// One way through the broker:
///
///   name    request        lease        answer  result    reply         to
///   score   Sample         ScoreLease   Score   velocity  ScoredSample  fake_score
///   anchor  AnchorRequest  AnchorLease  Anchor  x_a       ServedAnchor  generator
struct TeacherWork {
  const char* name;
  wire::Kind request;
  const char* receiver;  // node that the reply goes to
  int order;             // within a step: scores first, because the fake score works while teachers do the anchors

  /// Each throws Error where a message is not whole.
  WorkRequest (*read_request)(const Envelope& request);
  WorkResult (*read_answer)(const Envelope& answer);
  Envelope (*reply)(const Envelope& request, TensorFrame result, bool cache_hit);
};

/// The row of a request of this kind, which must be Sample or AnchorRequest.
const TeacherWork& WorkOf(wire::Kind request);
inline constexpr int kWorkKinds = 2;

}  // namespace sgmd
