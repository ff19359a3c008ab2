#include "nodes/broker/teacher_service.h"

#include <cmath>
#include <set>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "common/log/log.h"
#include "nodes/broker/answer_cache.h"
#include "pipeline/models/role_experts.h"

namespace sgmd {
namespace {

std::unique_ptr<AnswerStore> OpenStore(const Topology& topology, const ScorerFingerprint& scorer, bool replay) {
  if (!topology.cache.enabled) {
    if (replay) throw Error("replay needs [cache] enabled = true");
    return std::make_unique<NoAnswers>();
  }
  auto cache = std::make_unique<AnswerCache>(
      topology.cache.folder, AnswerCache::Options{.limit_gib = topology.cache.limit_gib, .replay = replay});
  if (replay) {
    cache->RequireFingerprint(scorer);
  } else {
    cache->RecordFingerprint(scorer);
  }
  return cache;
}

// "cpu", "cuda" or "cpu and cuda": where teachers of both kinds answer, chance decides which one's bits are kept.
std::string DevicesOfTeachers(const LaunchPlan& plan) {
  std::set<Device::Kind> kinds;
  for (const Placement& place : Placements(plan)) {
    if (place.node.role == Role::kTeacher) kinds.insert(place.device.kind);
  }
  std::vector<std::string> names;
  for (const Device::Kind kind : kinds) names.push_back(Spell(kind));
  return names.empty() ? Spell(Device::Kind::kCpu) : Joined(names, " and ");
}

// What decides the bits of a score beside its inputs, as it stands in the answers' keys.
std::string ArithmeticOf(const Experiment& e) {
  const std::string experts = HasTwoExperts(e) ? StrCat(", experts from sigma ", e.model.boundary) : "";
  return StrCat(Spell(e.precision.compute), ", ", Spell(e.precision.kernels), " kernels", experts);
}

}  // namespace

TeacherService::TeacherService(const LaunchPlan& plan, bool replay, Members& members)
    : experiment_(plan.experiment),
      run_id_(ExperimentDigest(experiment_)),
      replay_(replay),
      members_(members),
      latent_shape_(LatentShape(experiment_)),
      scorer_{ModelDigest(experiment_.model.teacher), GuidanceOf(experiment_), ArithmeticOf(experiment_),
              Spell(experiment_.precision.scores), DevicesOfTeachers(plan)},
      answers_(OpenStore(plan.topology, scorer_, replay)),
      dispatcher_(std::chrono::duration<double>(plan.topology.transport.lease_seconds)) {}

std::string TeacherService::RefusalOf(const Digest& model) const {
  if (replay_) return "a replay has no teachers";
  if (model == scorer_.teacher) return "";
  return StrCat("its model is ", model.Hex(), ", the experiment's teacher is ", scorer_.teacher.Hex());
}

// Anchors of a step come after its scores and before the scores of the next step.
std::uint64_t TeacherService::PlaceOf(wire::Kind request, const message::Ticket& ticket) const {
  const std::int64_t group = kWorkKinds * ticket.step + WorkOf(request).order;
  return static_cast<std::uint64_t>(group * experiment_.data.micro_batches + ticket.index);
}

AnswerPlace TeacherService::AnswerPlaceOf(const Envelope& request) const {
  return {run_id_, static_cast<std::uint64_t>(experiment_.rollbacks),
          static_cast<std::uint8_t>(WorkOf(request.kind).order), request.step, request.index};
}

Digest TeacherService::KeyOf(wire::Kind request, const Envelope& lease) const {
  const Experiment& e = experiment_;
  if (request == wire::Kind::Sample) return ScoreKey(scorer_, lease.tensors);
  return AnchorKey(scorer_, {e.diversity.anchor_steps, e.diversity.anchor_grid, e.schedule.student_shift},
                   lease.tensors);
}

bool TeacherService::OfTheExperiment(wire::Kind kind, const message::Ticket& ticket,
                                     const std::vector<std::int64_t>& shape) const {
  const Experiment& e = experiment_;
  if (kind == wire::Kind::AnchorRequest && e.diversity.weight == 0) return false;
  return shape == latent_shape_ && ticket.step >= 0 && ticket.step < e.steps && ticket.index >= 0 &&
         ticket.index < e.data.micro_batches;
}

std::string TeacherService::MissText(const Envelope& request) const {
  return StrCat("replay: no ", WorkOf(request.kind).name, " recorded for step ", request.step, ", micro-batch ",
                request.index, " (", scorer_.Text(),
                "); the experiment differs from the recorded one, goes on longer, or the cache lost entries");
}

std::string TeacherService::OnRequest(const Envelope& request) {
  WorkRequest asked = WorkOf(request.kind).read_request(request);
  if (!OfTheExperiment(request.kind, asked.ticket, asked.shape)) {
    LogWarning("dropped a ", wire::EnumNameKind(request.kind), " of step ", asked.ticket.step, ", micro-batch ",
               asked.ticket.index, ", which the experiment does not have");
    return "";
  }
  for (const TensorFrame& tensor : request.tensors) {
    if (!AllFinite(tensor.view)) {
      return StrCat("the ", wire::EnumNameKind(request.kind), " of step ", asked.ticket.step, ", micro-batch ",
                    asked.ticket.index, " is not finite: ", tensor.view.name,
                    " holds an infinite value or no number; the student that made it has diverged");
    }
  }
  const std::uint64_t place = PlaceOf(request.kind, asked.ticket);
  const bool anchor = request.kind == wire::Kind::AnchorRequest;
  const double cost = anchor ? static_cast<double>(experiment_.diversity.anchor_steps) : 1;
  if (!dispatcher_.Add(place, {cost, WorkOf(request.kind).order}, /*wanted=*/false)) {
    LogDebug("dropped a ", wire::EnumNameKind(request.kind), " that was here before");
    return "";
  }
  ++CountsOf(request.kind).asked;
  const Digest key = KeyOf(request.kind, asked.lease);
  pending_[place] = {request, std::move(asked.lease), key};
  return answers_->Lookup(place, key) ? "" : OnAbsent(place);
}

std::optional<std::string> TeacherService::ServeFromStore() {
  auto found = answers_->TakeFound();
  if (!found) return {};
  if (!found->answer) return OnAbsent(found->request);
  const Pending done = std::move(pending_.extract(found->request).mapped());
  ++CountsOf(done.request.kind).cached;
  dispatcher_.Fill(found->request);
  if (!replay_) answers_->Record(AnswerPlaceOf(done.request), done.key);
  Reply(done.request, std::move(*found->answer), true);
  return "";
}

// The store has no answer to this request.
std::string TeacherService::OnAbsent(std::uint64_t place) {
  if (replay_) return MissText(pending_.at(place).request);
  dispatcher_.Want(place);
  GrantLeases();
  return "";
}

void TeacherService::OnCredit(const std::string& teacher, const message::Credit& credit) {
  dispatcher_.AddCredit(teacher, static_cast<int>(credit.leases));
  GrantLeases();
}

void TeacherService::GrantLeases() {
  held_back_ = dispatcher_.waiting() > 0 && answers_->IsBehind();
  if (held_back_) return;
  while (const auto lease = dispatcher_.NextLease(std::chrono::steady_clock::now())) {
    Envelope message = pending_.at(lease->ticket).lease;
    message.request_id = lease->ticket;
    message.attempt = lease->attempt;
    members_.Post(lease->teacher, std::move(message));
  }
}

std::string TeacherService::OnAnswer(const std::string& teacher, const Envelope& answer) {
  dispatcher_.Heard(teacher);
  const auto now = std::chrono::steady_clock::now();
  const auto it = pending_.find(answer.request_id);
  if (it == pending_.end()) {
    dispatcher_.Answer(teacher, answer.request_id, answer.attempt, now);  // counts it as dropped
    GrantLeases();
    return "";
  }
  try {
    const WorkResult result = ResultIn(answer, teacher, it->second.request.kind);
    if (!AllFinite(result.tensor.view)) return OnNotFinite(teacher, it->second);
    dispatcher_.Answer(teacher, answer.request_id, answer.attempt, now);
    Use(std::move(pending_.extract(it).mapped()), result);
    GrantLeases();
  } catch (const Error& error) {
    SendAway(teacher, error.message());
  }
  return "";
}

// Throws Error saying why it is not used.
WorkResult TeacherService::ResultIn(const Envelope& answer, const std::string& teacher, wire::Kind request) const {
  const TeacherWork& work = WorkOf(request);
  if (!dispatcher_.Holds(teacher, answer.request_id, answer.attempt))
    throw Error(StrCat("it was not given the ", work.name, " that it answers"));
  WorkResult result;
  try {
    result = work.read_answer(answer);
  } catch (const Error& error) {
    throw Error(StrCat("its answer is no ", work.name, ": ", error.message()));
  }
  if (result.tensor.view.shape != latent_shape_)
    throw Error(StrCat("its ", work.name, " does not have the shape of the experiment's latents"));
  const bool half = request == wire::Kind::Sample && experiment_.precision.scores == Compute::kBfloat16;
  if (result.tensor.view.dtype != (half ? DType::kBF16 : DType::kF32))
    throw Error(StrCat("its ", work.name, " does not have the dtype of the experiment's scores"));
  if (!std::isfinite(result.forward_equivalents))
    throw Error(StrCat("its ", work.name, " took ", result.forward_equivalents, " forward-equivalents"));
  return result;
}

// Another process may do better: the first one's machine may be broken. A second one says that it is the model.
std::string TeacherService::OnNotFinite(const std::string& teacher, Pending& pending) {
  const std::string what = StrCat(WorkOf(pending.request.kind).name, " of step ", pending.request.step,
                                  ", micro-batch ", pending.request.index);
  if (pending.was_not_finite) {
    return StrCat("the ", what, " is not finite: two processes found that, the second of them ", teacher,
                  "; the sample is finite, and the teacher's model overflows on it");
  }
  pending.was_not_finite = true;
  SendAway(teacher, StrCat("its ", what, " holds an infinite value or no number"));
  return "";
}

void TeacherService::Use(Pending done, const WorkResult& result) {
  CountsOf(done.request.kind).work += result.forward_equivalents;
  Reply(done.request, result.tensor, false);
  answers_->Store(done.key, result.tensor);
  answers_->Record(AnswerPlaceOf(done.request), done.key);
}

void TeacherService::SendAway(const std::string& teacher, const std::string& why) {
  members_.Post(teacher, ToEnvelope(message::Failed{why}));
  Lose(teacher, "was sent away: " + why);
}

void TeacherService::Reply(const Envelope& request, TensorFrame result, bool cache_hit) {
  const TeacherWork& work = WorkOf(request.kind);
  members_.Post(work.receiver, work.reply(request, std::move(result), cache_hit));
}

void TeacherService::Suspend(const std::string& teacher, const std::string& why) {
  members_.Suspend(teacher);
  const int released = dispatcher_.Suspend(teacher);
  LogWarning(teacher, " ", why, ", ", released, " leases dispatched again");
  GrantLeases();
}

void TeacherService::Resume(const std::string& teacher) {
  dispatcher_.Resume(teacher);
  LogInfo(teacher, " is back");
  GrantLeases();
}

void TeacherService::Lose(const std::string& teacher, const std::string& why) {
  const int released = dispatcher_.Release(teacher);
  if (members_.Remove(teacher)) LogInfo(teacher, " ", why, ", ", released, " leases dispatched again");
  GrantLeases();
}

void TeacherService::Tick() {
  const std::vector<std::string> late = dispatcher_.Expire(std::chrono::steady_clock::now());
  if (!late.empty()) {
    LogWarning(late.size(), " leases expired, and what is still wanted of them is dispatched again; no more for ",
               Joined(late, ", "), " until it answers");
  }
  GrantLeases();
}

bool TeacherService::OpenBefore(std::int64_t step) const {
  // Places ascend with steps.
  return !pending_.empty() && pending_.begin()->second.request.step < step;
}

}  // namespace sgmd
