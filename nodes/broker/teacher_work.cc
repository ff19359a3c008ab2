#include "nodes/broker/teacher_work.h"

#include "common/error/error.h"

namespace sgmd {

const TeacherWork& WorkOf(wire::Kind request) {
  using enum wire::Kind;
  static const TeacherWork score{"score",    Sample, Lease, Score, ScoredSample, {"x_g", "x_s", "sigma", "prompts"}, {"x_s", "sigma", "prompts"},
                                 "velocity", "fake_score", /*reply_has_request=*/true, 0};
  static const TeacherWork anchor{"anchor", AnchorRequest, AnchorLease, Anchor, Anchor, {"noise", "prompts"}, {"noise", "prompts"},
                                  "x_a",    "generator",   /*reply_has_request=*/false, 1};
  if (request == Sample) return score;
  if (request == AnchorRequest) return anchor;
  throw Error(StrCat("a ", wire::EnumNameKind(request), " is no work for a teacher"));
}

}  // namespace sgmd
