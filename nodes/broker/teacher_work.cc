#include "nodes/broker/teacher_work.h"

#include "common/config/role.h"
#include "common/error/error.h"

namespace sgmd {
namespace {

WorkRequest ReadSample(const Envelope& request) {
  const auto sample = FromEnvelope<message::Sample>(request);
  const message::ScoreLease lease{sample.ticket, {}, sample.sigma, sample.prompts, sample.x_s};
  return {sample.ticket, sample.x_s.view.shape, ToEnvelope(lease)};
}

WorkRequest ReadAnchorRequest(const Envelope& envelope) {
  const auto request = FromEnvelope<message::AnchorRequest>(envelope);
  return {request.ticket, request.noise.view.shape, ToEnvelope(message::AnchorLease{request, {}})};
}

WorkResult ReadScore(const Envelope& answer) {
  auto score = FromEnvelope<message::Score>(answer);
  return {std::move(score.velocity), score.forward_equivalents};
}

WorkResult ReadAnchor(const Envelope& answer) {
  auto anchor = FromEnvelope<message::Anchor>(answer);
  return {std::move(anchor.x_a), anchor.forward_equivalents};
}

Envelope ReplyWithScore(const Envelope& request, TensorFrame velocity, bool cache_hit) {
  return ToEnvelope(message::ScoredSample{FromEnvelope<message::Sample>(request), cache_hit, std::move(velocity)});
}

Envelope ReplyWithAnchor(const Envelope& request, TensorFrame x_a, bool cache_hit) {
  return ToEnvelope(message::ServedAnchor{{request.step, request.index}, cache_hit, std::move(x_a)});
}

}  // namespace

const TeacherWork& WorkOf(wire::Kind request) {
  static constexpr TeacherWork kTable[kWorkKinds] = {
      {"score", wire::Kind::Sample, Spell(Role::kFakeScore), 0, ReadSample, ReadScore, ReplyWithScore},
      {"anchor", wire::Kind::AnchorRequest, Spell(Role::kGenerator), 1, ReadAnchorRequest, ReadAnchor, ReplyWithAnchor},
  };
  for (const TeacherWork& work : kTable) {
    if (work.request == request) return work;
  }
  throw Error(StrCat("a ", wire::EnumNameKind(request), " asks a teacher for nothing"));
}

}  // namespace sgmd
