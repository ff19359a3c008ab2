#include "nodes/broker/broker.h"

#include <algorithm>
#include <cmath>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/trace/trace.h"
#include "pipeline/models/role_configs.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kRound{20}, kTick{100}, kTickForDisk{5};

constexpr std::chrono::seconds kLastWords{3}, kVisit{600}, kMetricsPeriod{1};
constexpr std::int64_t kControlFrameBytes = 1 << 20, kAlignmentFrameBytes = std::int64_t{2} << 30;

// The largest that the run itself sends.
std::int64_t DataFrameBytes(const Experiment& e) {
  if (e.objective.alignment > 0) return kAlignmentFrameBytes;
  std::int64_t bytes = 4 * e.data.micro_batch;
  for (const std::int64_t extent : e.data.latent) bytes *= extent;
  return std::max(bytes, kControlFrameBytes);
}

GateKeys KeysOf(const LaunchPlan& plan) {
  return LoadGateKeys(RunFolder{plan.topology.run.folder}.Keys(), UsersOf(plan), plan.topology.transport.encrypt);
}

// Nobody trains for the sake of a page: without one the run goes on.
std::unique_ptr<MetricsPage> MakeMetrics(const std::string& listen) try {
  if (listen.empty()) return nullptr;
  auto page = std::make_unique<MetricsPage>(listen);
  LogInfo("metrics on http://", listen, "/metrics");
  return page;
} catch (const Error& error) {
  LogWarning(error.message(), " (", error.where(), "): ", error.hint());
  return nullptr;
}

Members::Limits LimitsOf(const Topology& t) { return {t.transport.silence_seconds, t.restart.stall_seconds}; }

}  // namespace

Broker::Broker(LaunchPlan plan, Options options)
    : plan_(std::move(plan)),
      options_(options),
      identity_{"broker", ExperimentDigest(plan_.experiment), options_.epoch},
      gate_(KeysOf(plan_)),
      data_(plan_.topology.transport.data, &gate_, DataFrameBytes(plan_.experiment)),
      control_(plan_.topology.transport.control, &gate_, kControlFrameBytes, Channel::kControl),
      data_peers_(data_, identity_),
      control_peers_(control_, identity_),
      members_(data_peers_, LimitsOf(plan_.topology)),
      launchers_(control_peers_),
      teachers_(plan_, options_.replay, members_),
      checkpoints_(teachers_, members_),
      forward_cost_{ForwardCost(plan_.experiment, Role::kGenerator), ForwardCost(plan_.experiment, Role::kFakeScore)},
      metrics_(MakeMetrics(plan_.topology.metrics.listen)) {}

int Broker::Run(const StopRequests& stop) {
  LogInfo("serving on ", plan_.topology.transport.data, plan_.topology.transport.encrypt ? ", encrypted" : "",
          options_.replay ? ", replay" : "", ", cache ",
          plan_.topology.cache.enabled ? plan_.topology.cache.folder.string() : "off");
  while (!exit_code_ && !stop.now) {
    if (stop.in_order) Drain();
    const auto longest = checkpoints_.holds() || teachers_.HeldBack() ? kTickForDisk : kTick;
    Server::Wait({&data_, &control_}, longest, teachers_.store_event());
    while (auto in = control_.TryReceive()) OnControl(*in);
    ReadData();
    if (!exit_code_) OnTick();
  }
  if (exit_code_) DeliverLastWords();
  LogSummary(plan_, teachers_, work_, data_.malformed() + control_.malformed());
  return exit_code_.value_or(1);
}

// For a moment: data that keeps coming must not keep beats, questions and the tick waiting. What the store has read is
// data too.
void Broker::ReadData() {
  const auto until = std::chrono::steady_clock::now() + kRound;
  while (!exit_code_ && std::chrono::steady_clock::now() < until) {
    const bool served = ServeFromStore();
    const auto in = exit_code_ ? std::nullopt : data_.TryReceive();
    if (!in && !served) return;
    if (in) OnData(*in);
  }
}

bool Broker::ServeFromStore() {
  const auto why = teachers_.ServeFromStore();
  if (why && !why->empty()) Fail(*why);
  return why.has_value();
}

// They must arrive, whatever happens to a connection meanwhile.
void Broker::DeliverLastWords() {
  const auto deadline = std::chrono::steady_clock::now() + kLastWords;
  while (!members_.AllHaveAll() && std::chrono::steady_clock::now() < deadline) {
    Server::Wait({&data_}, kTick);
    while (auto in = data_.TryReceive()) {
      const bool again = data_peers_.Take(*in) && in->envelope.kind == wire::Kind::Hello;
      if (again && members_.Joined(in->envelope.node) && RefusalOf(*in).empty()) data_peers_.Welcome(*in);
    }
    data_peers_.Flush();
  }
}

bool Broker::IsOfUser(const Server::Incoming& in) const { return UserOf(plan_, in.envelope.node) == in.user; }

void Broker::OnData(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  const trace::Span span("deal with", {e.step, e.index, wire::EnumNameKind(e.kind)});
  const auto node = data_peers_.Take(in);
  if (!node) return;
  if (e.kind == wire::Kind::Hello) return OnHello(in);
  if (!members_.Joined(*node)) return LogDebug("dropped a ", wire::EnumNameKind(e.kind), " of ", *node, ", which left");
  const Route* route = RouteOf(Socket::kData, e.kind, *node);
  if (route == nullptr) return log_.Warn("unexpected ", wire::EnumNameKind(e.kind), " from ", *node);
  if (*route->to != '\0') return members_.Post(route->to, e);
  try {
    DealWithData(*node, e);
  } catch (const Error& error) {
    log_.Warn("dropped a message that is not whole: ", error.message());
  }
}

void Broker::DealWithData(const std::string& node, const Envelope& e) {
  switch (e.kind) {
    case wire::Kind::Sample:
    case wire::Kind::AnchorRequest:
      if (const std::string why = teachers_.OnRequest(e); !why.empty()) Fail(why);
      return;
    case wire::Kind::Score:
    case wire::Kind::Anchor:
      if (const std::string why = teachers_.OnAnswer(node, e); !why.empty()) Fail(why);
      return;
    case wire::Kind::Credit:
      return teachers_.OnCredit(node, FromEnvelope<message::Credit>(e));
    case wire::Kind::Leave:
      return teachers_.Lose(node, "left");
    case wire::Kind::CheckpointPart: {
      const auto part = FromEnvelope<message::CheckpointPart>(e);
      work_.fake_score = part.forward_equivalents * forward_cost_.fake_score;
      return checkpoints_.Hold(part);
    }
    default: {
      const auto finished = FromEnvelope<message::Finished>(e);
      work_.generator = finished.forward_equivalents * forward_cost_.generator;
      LogInfo("finished at step ", finished.step);
      members_.PostToAll(ToEnvelope(message::Close{}));
      exit_code_ = 0;
    }
  }
}

std::string Broker::RefusalOf(const Server::Incoming& hello) const {
  const Envelope& e = hello.envelope;
  if (!OfSameRun(e, identity_)) return "it belongs to another run, or to another start of this one";
  if (!IsOfUser(hello)) return StrCat("its key is that of ", hello.user);
  if (members_.WasReplaced(e.process)) return "another process has taken its name over";
  if (SpeaksForTeacher(e.node)) return teachers_.RefusalOf(FromEnvelope<message::Hello>(e).model);
  if (e.node != Spell(Role::kGenerator) && e.node != Spell(Role::kFakeScore)) return "no role has this name";
  return members_.TakenByAnother(e.node, e.process) ? "another process has this role" : "";
}

void Broker::OnHello(const Server::Incoming& in) {
  const std::string& node = in.envelope.node;
  if (const std::string refusal = RefusalOf(in); !refusal.empty()) {
    log_.Warn("refused ", node, ": ", refusal);
    return data_peers_.Refuse(in, refusal);
  }
  if (members_.TakenByAnother(node, in.envelope.process)) teachers_.Lose(node, "started anew");
  members_.Welcome(node, in);
  const int ranks = RanksOf(plan_.topology, *ParseNodeName(node));
  for (int rank = 1; rank < ranks; ++rank) members_.Expect(StrCat(node, "/", rank));
}

void Broker::OnControl(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  const trace::Span span("deal with", {.kind = wire::EnumNameKind(e.kind)});
  if (e.kind == wire::Kind::Beat) return OnBeat(in);
  const auto node = control_peers_.Take(in);
  if (!node) return;
  const Route* route = RouteOf(Socket::kControl, e.kind, *node);
  if (e.kind == wire::Kind::Hello) {
    const bool of_run = OfSameRun(e, identity_);
    if (of_run && route != nullptr && IsOfUser(in)) {
      control_peers_.Welcome(in);
      if (RoleOf(*node) == Spell(Role::kLauncher)) launchers_.Join(*node);
      return;
    }
    log_.Warn("refused ", *node, " of user ", in.user, " on the control socket");
    return control_peers_.Refuse(in, of_run ? "its key is that of " + in.user : RefusalOf(in));
  }
  if (route == nullptr) {
    return log_.Warn("unexpected ", wire::EnumNameKind(e.kind), " on the control socket from ", *node);
  }
  if (*route->to != '\0') return control_peers_.Post(route->to, e);
  try {
    DealWithControl(*node, e);
  } catch (const Error& error) {
    log_.Warn("dropped a message that is not whole: ", error.message());
  }
}

void Broker::DealWithControl(const std::string& node, const Envelope& e) {
  switch (e.kind) {
    case wire::Kind::StatusRequest:
      control_peers_.Tell(node, ToEnvelope(message::Status{StatusNow()}));
      return;
    case wire::Kind::Drain:
      return Drain();
    case wire::Kind::Scale:
      return control_peers_.Post(node, ToEnvelope(launchers_.OnScale(FromEnvelope<message::Scale>(e))));
    default: {
      const auto exited = FromEnvelope<message::NodeExited>(e);
      if (SpeaksForTeacher(exited.node)) return teachers_.Lose(exited.node, "exited");
      if (IsTeacher(exited.node)) members_.Remove(exited.node);  // its group ends with it, and may meet again
    }
  }
}

void Broker::Drain() {
  if (draining_) return;
  LogInfo("draining: the generator finishes its step and checkpoints");
  draining_ = true;
  for (const auto& [name, member] : members_.all()) {
    if (!member.control_pipe.empty()) TellToDrain(member.control_pipe);
  }
}

void Broker::TellToDrain(const std::string& pipe) {
  Envelope drain = ToEnvelope(message::Drain{});
  Stamp(drain, identity_);
  control_.Send(pipe, drain);
}

// Beats come on a connection of their own, which needs no Hello: the gate knows whose it is, and a beat that is lost is
// followed by the next. So is an order to drain that is lost.
void Broker::OnBeat(const Server::Incoming& in) try {
  const Envelope& e = in.envelope;
  if (!OfSameRun(e, identity_)) return;
  if (RouteOf(Socket::kControl, e.kind, e.node) == nullptr || !IsOfUser(in))
    return log_.Warn("dropped a beat of ", e.node, " by user ", in.user);
  const bool well_again = members_.OnBeat(e.node, e.process, FromEnvelope<message::Beat>(e), in.pipe);
  if (well_again && SpeaksForTeacher(e.node)) teachers_.Resume(e.node);
  if (e.node == Spell(Role::kGenerator)) {
    if (const auto step = e.scalars.find("step"); step != e.scalars.end()) pace_.Mark(step->second);
  }
  if (draining_) TellToDrain(in.pipe);
} catch (const Error& error) {
  log_.Warn("dropped a beat that is not whole: ", error.message());
}

void Broker::UpdateMetrics() {
  const auto now = std::chrono::steady_clock::now();
  if (!metrics_ || now < next_metrics_) return;
  next_metrics_ = now + kMetricsPeriod;
  metrics_->Update(StatusNow());
}

void Broker::OnTick() {
  failpoint::Hit("broker.tick");
  const trace::Span span("look after the members");
  members_.Tick();
  UpdateMetrics();
  teachers_.Tick();
  checkpoints_.Open();
  data_peers_.Flush();
  control_peers_.Flush();
  control_peers_.ForgetVisitors("client.", kVisit);
  for (const std::string& name : members_.Unwell()) {
    const Members::Member& member = members_.all().at(name);
    const bool silent = members_.StateOf(member) == Members::State::kSilent;
    const double seconds = silent ? members_.SilentSeconds(member) : members_.IdleSeconds(member);
    const std::string why =
        StrCat(silent ? "has been silent for " : "has done nothing while it works for ", std::lround(seconds), " s");
    if (SpeaksForTeacher(name)) {
      teachers_.Suspend(name, why);
    } else {
      members_.Suspend(name);
      LogWarning(name, " ", why);
    }
  }
}

void Broker::Fail(const std::string& why) {
  LogError(why);
  members_.PostToAll(ToEnvelope(message::Failed{why}));
  exit_code_ = 1;
}

std::string Broker::StatusNow() const {
  return StatusText({State(), plan_.experiment.steps, pace_}, members_, teachers_,
                    data_.malformed() + control_.malformed());
}

std::string Broker::State() const { return draining_ ? "draining" : options_.replay ? "replay" : "running"; }

}  // namespace sgmd
