#include "nodes/broker/teacher_work.h"

#include "common/error/error.h"

namespace sgmd {

const TeacherWork& WorkOf(wire::Kind request) {
  using enum wire::Kind;
  static const TeacherWork score{.name = "score",
                                 .request = Sample,
                                 .lease = Lease,
                                 .answer = Score,
                                 .reply = ScoredSample,
                                 .request_tensors = {"x_g", "x_s", "sigma", "prompts"},
                                 .lease_tensors = {"x_s", "sigma", "prompts"},
                                 .result = "velocity",
                                 .receiver = "fake_score",
                                 .reply_has_request = true,
                                 .order = 0};
  static const TeacherWork anchor{.name = "anchor",
                                  .request = AnchorRequest,
                                  .lease = AnchorLease,
                                  .answer = Anchor,
                                  .reply = Anchor,
                                  .request_tensors = {"noise", "prompts"},
                                  .lease_tensors = {"noise", "prompts"},
                                  .result = "x_a",
                                  .receiver = "generator",
                                  .reply_has_request = false,
                                  .order = 1};
  if (request == Sample) return score;
  if (request == AnchorRequest) return anchor;
  throw Error(StrCat("a ", wire::EnumNameKind(request), " is no work for a teacher"));
}

}  // namespace sgmd
