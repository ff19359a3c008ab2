// Work for teachers: requests, the cache, leases, answers, and what a checkpoint waits for.
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/broker/broker.h"
#include "nodes/broker/teacher_work.h"

namespace sgmd {

// Anchors of a step come after its scores and before the scores of the next step.
std::uint64_t Broker::TicketOf(const Envelope& request) const {
  const std::int64_t place = kWorkKinds * request.step + WorkOf(request.kind).order;
  return static_cast<std::uint64_t>(place * plan_.experiment.data.micro_batches + request.index);
}

Digest Broker::KeyOf(const Envelope& request) const {
  const Experiment& e = plan_.experiment;
  if (request.kind == wire::Kind::Sample) return ScoreKey(scorer_, request);
  return AnchorKey(scorer_, {e.diversity.anchor_steps, e.diversity.anchor_grid, e.schedule.student_shift}, request);
}

bool Broker::IsWhole(const Envelope& request) const {
  const Experiment& e = plan_.experiment;
  for (const char* name : WorkOf(request.kind).request_tensors) {
    if (request.Find(name) == nullptr) return false;
  }
  if (request.kind == wire::Kind::AnchorRequest) {
    std::vector<std::int64_t> shape{e.data.micro_batch};
    shape.insert(shape.end(), e.data.latent.begin(), e.data.latent.end());
    const TensorView& noise = request.At("noise").view;
    if (e.diversity.weight == 0 || noise.dtype != DType::kF32 || noise.shape != shape) return false;
  }
  return request.step >= 0 && request.step < e.steps && request.index >= 0 && request.index < e.data.micro_batches;
}

void Broker::OnRequest(const Envelope& request) {
  const TeacherWork& work = WorkOf(request.kind);
  if (!IsWhole(request)) {
    return LogWarning("dropped a ", wire::EnumNameKind(request.kind), " without its tensors or outside the experiment");
  }
  const std::uint64_t ticket = TicketOf(request);
  const bool anchor = request.kind == wire::Kind::AnchorRequest;
  if (!dispatcher_.Add(ticket, anchor ? static_cast<double>(plan_.experiment.diversity.anchor_steps) : 1)) {
    return LogDebug("dropped a ", wire::EnumNameKind(request.kind), " that was here before");
  }
  Served& served = anchor ? anchors_ : samples_;
  ++served.asked;
  const Digest key = KeyOf(request);
  if (auto result = scores_->Lookup(key)) {
    ++served.cached;
    dispatcher_.Accept(ticket);
    return Reply(request, std::move(*result), true);
  }
  if (options_.replay) {
    return Finish(wire::Kind::Failed,
                  StrCat("replay: no ", work.name, " recorded for step ", request.step, ", micro-batch ", request.index,
                         " (", scorer_.Text(),
                         "); the experiment differs from the recorded one, goes on longer, or the cache lost entries"),
                  1);
  }
  pending_[ticket] = {request, key};
  GrantLeases();
}

void Broker::GrantLeases() {
  while (const auto lease = dispatcher_.NextLease(std::chrono::steady_clock::now())) {
    const Envelope& request = pending_.at(lease->ticket).request;
    const TeacherWork& work = WorkOf(request.kind);
    Envelope message = Make(work.lease);
    message.request_id = lease->ticket;
    message.attempt = lease->attempt;
    message.step = request.step;
    message.index = request.index;
    for (const char* name : work.lease_tensors) message.tensors.push_back(request.At(name));
    if (data_.Send(lease->teacher, message)) continue;
    dispatcher_.AddCredit(lease->teacher, 1);  // it never got this one
    SuspendTeacher(lease->teacher, "is unreachable");
  }
}

void Broker::OnAnswer(const std::string& teacher, const Envelope& answer) {
  const auto it = pending_.find(answer.request_id);
  if (it == pending_.end()) {
    dispatcher_.Accept(answer.request_id);  // counts it as dropped
    return;
  }
  const TeacherWork& work = WorkOf(it->second.request.kind);
  Served& served = it->second.request.kind == wire::Kind::AnchorRequest ? anchors_ : samples_;
  if (const auto spent = answer.scalars.find("forward_equivalents"); spent != answer.scalars.end())
    served.work += spent->second;
  const TensorFrame* result = answer.Find(work.result);
  const TensorView& like = it->second.request.At(work.lease_tensors.front()).view;
  if (answer.kind != work.answer || result == nullptr || result->view.dtype != DType::kF32 ||
      result->view.shape != like.shape) {
    const std::string text = StrCat("its ", work.name, " has not the dtype and shape of ", like.name);
    data_.Send(teacher, Make(wire::Kind::Failed, text));
    return LoseTeacher(teacher, "is sent away: " + text);
  }
  dispatcher_.Accept(answer.request_id);
  const Pending done = std::move(it->second);
  pending_.erase(it);
  Reply(done.request, *result, false);
  scores_->Store(done.key, *result);
  ForwardParts();
}

void Broker::Reply(const Envelope& request, TensorFrame result, bool cache_hit) {
  const TeacherWork& work = WorkOf(request.kind);
  Envelope reply = request;
  reply.kind = work.reply;
  reply.scalars["cache_hit"] = cache_hit ? 1 : 0;
  if (!work.reply_has_request) reply.tensors.clear();
  result.view.name = work.result;
  reply.tensors.push_back(std::move(result));
  Forward(work.receiver, reply);
}

// The fake score is done with a step when it has the scores; the step's anchors may still be with a teacher, and its
// checkpoint must not be committed without them: the resumed run would not ask for them again, and no replay would find
// them.
void Broker::OnCheckpointPart(const Envelope& part) {
  held_parts_.push_back(part);
  ForwardParts();
}

void Broker::ForwardParts() {
  std::erase_if(held_parts_, [&](const Envelope& part) {
    for (const auto& [ticket, pending] : pending_) {
      if (pending.request.step < part.step) return false;
    }
    scores_->Sync();  // before the commit, so that a resumed run finds every earlier answer
    Forward("generator", part);
    return true;
  });
}

}  // namespace sgmd
