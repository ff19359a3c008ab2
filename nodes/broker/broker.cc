#include "nodes/broker/broker.h"

#include <cmath>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/log/log.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kTick{100};

std::unique_ptr<CurveGate> MakeGate(const Topology& topology) {
  if (!topology.transport.encrypt) return nullptr;
  return std::make_unique<CurveGate>(LoadServerKeys(RunFolder{topology.run.folder}.Keys()));
}

}  // namespace

Broker::Broker(LaunchPlan plan, Options options)
    : plan_(std::move(plan)),
      options_(options),
      identity_{"broker", ExperimentDigest(plan_.experiment), options_.epoch},
      gate_(MakeGate(plan_.topology)),
      data_(plan_.topology.transport.data, gate_.get()),
      control_(plan_.topology.transport.control, gate_.get()),
      members_(data_, identity_, plan_.topology.transport.silence_seconds),
      launchers_(control_, identity_),
      teachers_(plan_, options_.replay, members_),
      checkpoints_(teachers_, members_) {}

int Broker::Run(const volatile bool& stop) {
  LogInfo("serving on ", plan_.topology.transport.data, gate_ ? ", encrypted" : "", options_.replay ? ", replay" : "",
          ", cache ", plan_.topology.cache.enabled ? plan_.topology.cache.folder.string() : "off");
  while (!exit_code_ && !stop) {
    Server::Wait({&data_, &control_}, kTick);
    while (auto in = control_.TryReceive()) OnControl(*in);
    while (auto in = exit_code_ ? std::nullopt : data_.TryReceive()) OnData(*in);
    if (!exit_code_) OnTick();
  }
  LogSummary(plan_, teachers_, work_, data_.malformed() + control_.malformed());
  return exit_code_.value_or(1);
}

void Broker::OnData(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (e.kind == wire::Kind::Hello) return OnHello(in);
  if (!OfSameRun(e, identity_) || !members_.Joined(in.peer)) {
    return LogDebug("dropped a ", wire::EnumNameKind(e.kind), " of ", in.peer, ", which is not part of this run");
  }
  const Route* route = RouteOf(Socket::kData, e.kind, in.peer);
  if (route == nullptr) return LogWarning("unexpected ", wire::EnumNameKind(e.kind), " from ", in.peer);
  if (*route->to != '\0') return members_.Forward(route->to, e);
  try {
    DealWithData(in.peer, e);
  } catch (const Error& error) {
    LogWarning("dropped a message that is not whole: ", error.message());
  }
}

void Broker::DealWithData(const std::string& peer, const Envelope& e) {
  switch (e.kind) {
    case wire::Kind::Sample:
    case wire::Kind::AnchorRequest:
      if (const std::string why = teachers_.OnRequest(e); !why.empty()) Fail(why);
      return;
    case wire::Kind::Score:
    case wire::Kind::Anchor:
      if (const std::string why = teachers_.OnAnswer(peer, e); !why.empty()) return Fail(why);
      return checkpoints_.Open();
    case wire::Kind::Credit:
      return teachers_.OnCredit(peer, FromEnvelope<message::Credit>(e));
    case wire::Kind::Leave:
      return teachers_.Lose(peer, "left");
    case wire::Kind::CheckpointPart: {
      const auto part = FromEnvelope<message::CheckpointPart>(e);
      work_.fake_score = part.forward_equivalents;
      checkpoints_.Hold(part);
      return checkpoints_.Open();
    }
    default: {
      const auto finished = FromEnvelope<message::Finished>(e);
      work_.generator = finished.forward_equivalents;
      LogInfo("finished at step ", finished.step);
      members_.TellAll(ToEnvelope(message::Close{}));
      exit_code_ = 0;
    }
  }
}

std::string Broker::WhyOfAnotherRun(const Envelope& e) const {
  return StrCat("it belongs to run ", e.run_id.Hex(), " epoch ", e.epoch, ", this is run ", identity_.run_id.Hex(),
                " epoch ", identity_.epoch);
}

std::string Broker::RefusalOf(const Server::Incoming& hello) const {
  if (!OfSameRun(hello.envelope, identity_)) return WhyOfAnotherRun(hello.envelope);
  const auto said = FromEnvelope<message::Hello>(hello.envelope);
  if (IsTeacher(hello.peer)) return teachers_.RefusalOf(said.model);
  if (hello.peer != Spell(Role::kGenerator) && hello.peer != Spell(Role::kFakeScore)) return "no role has this name";
  return members_.TakenByAnother(hello.peer, said.process) ? "another process has this role" : "";
}

void Broker::OnHello(const Server::Incoming& in) {
  if (const std::string refusal = RefusalOf(in); !refusal.empty()) {
    LogWarning("refused ", in.peer, ": ", refusal);
    Answer(data_, in.peer, ToEnvelope(message::Refused{refusal}));
    return;
  }
  const std::uint64_t process = in.envelope.process;
  if (members_.TakenByAnother(in.peer, process)) teachers_.Lose(in.peer, "started anew");
  members_.Welcome(in.peer, process);
}

void Broker::OnControl(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (!OfSameRun(e, identity_)) {
    if (e.kind == wire::Kind::Hello) Answer(control_, in.peer, ToEnvelope(message::Refused{WhyOfAnotherRun(e)}));
    return;
  }
  const Route* route = RouteOf(Socket::kControl, e.kind, in.peer);
  if (route == nullptr) {
    return LogWarning("unexpected ", wire::EnumNameKind(e.kind), " on the control socket from ", in.peer);
  }
  if (*route->to != '\0') {
    control_.Send(route->to, e);
    return;
  }
  try {
    DealWithControl(in.peer, e);
  } catch (const Error& error) {
    LogWarning("dropped a message that is not whole: ", error.message());
  }
}

void Broker::DealWithControl(const std::string& peer, const Envelope& e) {
  switch (e.kind) {
    case wire::Kind::Hello:
      Answer(control_, peer, ToEnvelope(message::Welcome{}));
      if (RoleOf(peer) == Spell(Role::kLauncher)) launchers_.Join(peer);
      return;
    case wire::Kind::Beat:
      return OnBeat(peer, FromEnvelope<message::Beat>(e));
    case wire::Kind::StatusRequest:
      Answer(control_, peer,
             ToEnvelope(message::Status{StatusText(State(), plan_.experiment.steps, members_, teachers_)}));
      return;
    case wire::Kind::Drain:
      if (!draining_) LogInfo("draining: the generator finishes its step and checkpoints");
      draining_ = true;
      Answer(control_, Spell(Role::kGenerator), ToEnvelope(message::Drain{}));
      return;
    case wire::Kind::Scale:
      Answer(control_, peer, ToEnvelope(launchers_.OnScale(FromEnvelope<message::Scale>(e))));
      return;
    default: {
      const auto exited = FromEnvelope<message::NodeExited>(e);
      if (IsTeacher(exited.node)) teachers_.Lose(exited.node, "exited");
    }
  }
}

void Broker::OnBeat(const std::string& peer, const message::Beat& beat) {
  // It may have come after the order.
  if (draining_ && peer == Spell(Role::kGenerator)) Answer(control_, peer, ToEnvelope(message::Drain{}));
  if (members_.OnBeat(peer, beat)) teachers_.Resume(peer);  // only teachers may be silent for a while
}

void Broker::OnTick() {
  teachers_.ExpireLeases();
  members_.SendWaiting();
  for (const std::string& name : members_.SilentNow()) {
    const double silent = members_.all().at(name).SilentSeconds();
    const std::string why = StrCat("has been silent for ", std::round(10 * silent) / 10, " s");
    if (!IsTeacher(name)) return Fail(name + " " + why);
    teachers_.Suspend(name, why);
  }
}

bool Broker::Answer(Server& socket, const std::string& peer, Envelope answer) const {
  Stamp(answer, identity_);
  return socket.Send(peer, answer);
}

void Broker::Fail(const std::string& why) {
  LogError(why);
  members_.TellAll(ToEnvelope(message::Failed{why}));
  exit_code_ = 1;
}

std::string Broker::State() const { return draining_ ? "draining" : options_.replay ? "replay" : "running"; }

}  // namespace sgmd
