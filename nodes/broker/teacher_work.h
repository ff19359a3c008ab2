// What teachers are asked for: a table with a row for each kind of work. Everything else in the broker is the same for
// all.
#pragma once

#include <vector>

#include "common/transport/envelope.h"

namespace sgmd {

/// One way through the broker:
///
///   name    request        lease        answer  tensors of the lease    result    reply         to
///   score   Sample         Lease        Score   x_s, sigma, prompts     velocity  ScoredSample  fake_score
///   anchor  AnchorRequest  AnchorLease  Anchor  noise, prompts          x_a       Anchor        generator
struct TeacherWork {
  const char* name;
  wire::Kind request, lease, answer, reply;
  std::vector<const char*> request_tensors;
  std::vector<const char*> lease_tensors;
  const char* result;      // the answer's tensor, float32 in the shape of the first of lease_tensors
  const char* receiver;    // node that the reply goes to
  bool reply_has_request;  // the reply holds the request's tensors too
  int order;               // within a step: scores first, because the fake score works while teachers do the anchors
};

/// Throws Error when `request` asks a teacher for nothing.
const TeacherWork& WorkOf(wire::Kind request);
inline constexpr int kWorkKinds = 2;

}  // namespace sgmd
