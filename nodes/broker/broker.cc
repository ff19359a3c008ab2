#include "nodes/broker/broker.h"

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/broker/score_cache.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kTick{100};

double Work(const Envelope& e) {
  const auto it = e.scalars.find("forward_equivalents");
  return it == e.scalars.end() ? 0 : it->second;
}

bool MaySend(const std::string& node, wire::Kind kind) {
  switch (kind) {
    case wire::Kind::Sample:
    case wire::Kind::AnchorRequest:
    case wire::Kind::InnerSample:
    case wire::Kind::Finished:
      return node == "generator";
    case wire::Kind::Gradient:
      return node == "fake_score";
    case wire::Kind::CheckpointPart:
      return node == "generator" || node == "fake_score";
    case wire::Kind::Credit:
    case wire::Kind::Score:
    case wire::Kind::Anchor:
    case wire::Kind::Leave:
      return IsTeacher(node);
    default:
      return false;
  }
}

std::unique_ptr<TeacherScores> OpenScores(const Topology& topology, const ScorerFingerprint& scorer, bool replay) {
  if (!topology.cache.enabled) {
    if (replay) throw Error("replay needs [cache] enabled = true");
    return std::make_unique<NoScores>();
  }
  auto cache = std::make_unique<ScoreCache>(topology.cache.folder, topology.cache.limit_gib);
  if (replay) {
    cache->RequireFingerprint(scorer);
  } else {
    cache->RecordFingerprint(scorer);
  }
  return cache;
}

std::unique_ptr<CurveGate> MakeGate(const Topology& topology) {
  if (!topology.transport.encrypt) return nullptr;
  return std::make_unique<CurveGate>(LoadServerKeys(RunFolder{topology.run.folder}.Keys()));
}

}  // namespace

Broker::Broker(LaunchPlan plan, Options options)
    : plan_(std::move(plan)),
      options_(options),
      run_id_(ExperimentDigest(plan_.experiment)),
      scorer_{ModelDigest(plan_.experiment.model.teacher), plan_.experiment.model.guidance,
              Spell(plan_.experiment.precision.compute)},
      scores_(OpenScores(plan_.topology, scorer_, options_.replay)),
      gate_(MakeGate(plan_.topology)),
      data_(plan_.topology.transport.data, gate_.get()),
      control_(plan_.topology.transport.control, gate_.get()),
      dispatcher_(std::chrono::duration<double>(plan_.topology.transport.lease_seconds)) {}

int Broker::Run(const volatile bool& stop) {
  LogInfo("serving on ", plan_.topology.transport.data, gate_ ? ", encrypted" : "", options_.replay ? ", replay" : "",
          ", cache ", plan_.topology.cache.enabled ? plan_.topology.cache.folder.string() : "off");
  while (!exit_code_ && !stop) {
    Server::Wait({&data_, &control_}, kTick);
    while (auto in = control_.TryReceive()) OnControl(*in);
    while (auto in = exit_code_ ? std::nullopt : data_.TryReceive()) OnData(*in);
    if (!exit_code_) OnTick();
  }
  LogSummary();
  return exit_code_.value_or(1);
}

bool Broker::Mine(const Envelope& e) const { return e.run_id == run_id_ && e.epoch == options_.epoch; }

Envelope Broker::Make(wire::Kind kind, std::string text) const {
  Envelope envelope;
  envelope.kind = kind;
  envelope.node = "broker";
  envelope.run_id = run_id_;
  envelope.epoch = options_.epoch;
  envelope.text = std::move(text);
  return envelope;
}

void Broker::OnData(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (e.kind == wire::Kind::Hello) return OnHello(in);
  const auto node = nodes_.find(in.peer);
  if (!Mine(e) || node == nodes_.end() || !node->second.joined) {
    return LogDebug("dropped a ", wire::EnumNameKind(e.kind), " of ", in.peer, ", which is not part of this run");
  }
  if (!MaySend(in.peer, e.kind)) return LogWarning("unexpected ", wire::EnumNameKind(e.kind), " from ", in.peer);
  switch (e.kind) {
    case wire::Kind::Sample:
    case wire::Kind::AnchorRequest:
      return OnRequest(e);
    case wire::Kind::InnerSample:
      return Forward("fake_score", e);
    case wire::Kind::Gradient:
      return Forward("generator", e);
    case wire::Kind::CheckpointPart:
      if (in.peer == "generator") return Forward("fake_score", e);
      fake_score_work_ = Work(e);
      return OnCheckpointPart(e);
    case wire::Kind::Finished:
      generator_work_ = Work(e);
      LogInfo("finished at step ", e.step);
      return Finish(wire::Kind::Close, "", 0);
    case wire::Kind::Credit:
      dispatcher_.AddCredit(in.peer, e.count);
      return GrantLeases();
    case wire::Kind::Score:
    case wire::Kind::Anchor:
      return OnAnswer(in.peer, e);
    default:
      return LoseTeacher(in.peer, "left");
  }
}

std::string Broker::Strangeness(const Envelope& e) const {
  return StrCat("it belongs to run ", e.run_id.Hex(), " epoch ", e.epoch, ", this is run ", run_id_.Hex(), " epoch ",
                options_.epoch);
}

std::string Broker::RefusalOf(const Server::Incoming& hello) const {
  const Envelope& e = hello.envelope;
  if (!Mine(e)) return Strangeness(e);
  if (IsTeacher(hello.peer)) {
    if (options_.replay) return "a replay has no teachers";
    if (e.digest == scorer_.teacher) return "";
    return StrCat("its model is ", e.digest.Hex(), ", the experiment's teacher is ", scorer_.teacher.Hex());
  }
  if (hello.peer != "generator" && hello.peer != "fake_score") return "no role has this name";
  const auto node = nodes_.find(hello.peer);
  const bool taken = node != nodes_.end() && node->second.joined && node->second.process != e.request_id;
  return taken ? "another process has this role" : "";
}

void Broker::OnHello(const Server::Incoming& in) {
  if (const std::string refusal = RefusalOf(in); !refusal.empty()) {
    LogWarning("refused ", in.peer, ": ", refusal);
    data_.Send(in.peer, Make(wire::Kind::Refused, refusal));
    return;
  }
  Node& node = nodes_[in.peer];
  const bool again = node.joined && node.process == in.envelope.request_id;
  if (node.joined && !again) LoseTeacher(in.peer, "started anew");
  node.joined = node.alive = true;
  node.process = in.envelope.request_id;
  node.last_beat = std::chrono::steady_clock::now();
  if (!again) LogInfo(in.peer, " joined");
  data_.Send(in.peer, Make(wire::Kind::Welcome));
  SendWaiting(in.peer, node);
}

void Broker::Forward(const std::string& peer, const Envelope& envelope) {
  Node& node = nodes_[peer];
  node.outbox.push_back(envelope);
  SendWaiting(peer, node);
}

void Broker::SendWaiting(const std::string& peer, Node& node) {
  while (node.joined && !node.outbox.empty() && data_.Send(peer, node.outbox.front())) node.outbox.pop_front();
}

void Broker::Finish(wire::Kind kind, const std::string& text, int exit_code) {
  if (!text.empty()) LogError(text);
  for (auto& [name, node] : nodes_) {
    if (!node.joined) continue;
    SendWaiting(name, node);
    data_.Send(name, Make(kind, text));
  }
  exit_code_ = exit_code;
}

}  // namespace sgmd
