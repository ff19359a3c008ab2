// Who is there and how it goes: the control socket, signs of life, the status.
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/broker/broker.h"

namespace sgmd {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kLauncher = "launcher";  // of the broker's host; those of others are launcher.HOST

double SecondsSince(Dispatcher::Time time) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
}

// JSON has no NaN; a metric that became one is left out.
Json FiniteOnly(const std::map<std::string, double>& scalars) {
  Json json = Json::object();
  for (const auto& [name, value] : scalars) {
    if (std::isfinite(value)) json[name] = value;
  }
  return json;
}

}  // namespace

void Broker::OnControl(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (!Mine(e)) {
    if (e.kind == wire::Kind::Hello) control_.Send(in.peer, Make(wire::Kind::Refused, Strangeness(e)));
    return;
  }
  switch (e.kind) {
    case wire::Kind::Hello:
      control_.Send(in.peer, Make(wire::Kind::Welcome));
      return OnLauncher(in.peer);
    case wire::Kind::Beat:
      return OnBeat(in.peer, e);
    case wire::Kind::StatusRequest:
      control_.Send(in.peer, Make(wire::Kind::Status, StatusText()));
      return;
    case wire::Kind::Drain:
      if (!draining_) LogInfo("draining: the generator finishes its step and checkpoints");
      draining_ = true;
      control_.Send("generator", Make(wire::Kind::Drain));
      return;
    case wire::Kind::Scale:
      return OnScale(in);
    case wire::Kind::RoleFailed:
      control_.Send(kLauncher, e);
      return;
    case wire::Kind::NodeExited:
      if (IsTeacher(e.text)) LoseTeacher(e.text, "exited");
      return;
    default:
      LogWarning("unexpected ", wire::EnumNameKind(e.kind), " on the control socket from ", in.peer);
  }
}

void Broker::OnLauncher(const std::string& peer) {
  if (peer != kLauncher && !peer.starts_with("launcher.")) return;
  launchers_.insert(peer);
  if (teachers_wanted_ == 0) return;
  Envelope scale = Make(wire::Kind::Scale);  // that came before this one did
  scale.count = teachers_wanted_;
  control_.Send(peer, scale);
}

void Broker::OnScale(const Server::Incoming& in) {
  teachers_wanted_ = in.envelope.count;
  bool sent = false;
  for (const std::string& launcher : launchers_) {
    Envelope scale = Make(wire::Kind::Scale);
    scale.count = teachers_wanted_;
    if (control_.Send(launcher, scale) && launcher == kLauncher) sent = true;
  }
  control_.Send(in.peer, sent ? Make(wire::Kind::Welcome) : Make(wire::Kind::Refused, "no launcher is connected"));
}

void Broker::OnBeat(const std::string& peer, const Envelope& beat) {
  Node& node = nodes_[peer];
  node.last_beat = std::chrono::steady_clock::now();
  node.progress = beat.version;
  for (const auto& [name, value] : beat.scalars) node.scalars[name] = value;
  if (draining_ && peer == "generator")
    control_.Send(peer, Make(wire::Kind::Drain));  // it may have come after the order
  if (node.alive || !node.joined) return;
  node.alive = true;
  dispatcher_.Resume(peer);
  LogInfo(peer, " is back");
  GrantLeases();
}

void Broker::OnTick() {
  if (const int expired = dispatcher_.Expire(std::chrono::steady_clock::now()); expired > 0) {
    LogWarning(expired, " leases expired and are dispatched again");
    GrantLeases();
  }
  for (auto& [name, node] : nodes_) {
    SendWaiting(name, node);
    const double silent = SecondsSince(node.last_beat);
    if (!node.joined || !node.alive || silent <= plan_.topology.transport.silence_seconds) continue;
    const std::string why = StrCat("is silent for ", std::round(10 * silent) / 10, " s");
    if (!IsTeacher(name)) return Finish(wire::Kind::Failed, name + " " + why, 1);
    SuspendTeacher(name, why);
  }
}

void Broker::SuspendTeacher(const std::string& teacher, const std::string& why) {
  nodes_[teacher].alive = false;
  const int released = dispatcher_.Suspend(teacher);
  LogWarning(teacher, " ", why, ", ", released, " leases dispatched again");
  GrantLeases();
}

void Broker::LoseTeacher(const std::string& teacher, const std::string& why) {
  const auto it = nodes_.find(teacher);
  if (it == nodes_.end()) return;
  const int released = dispatcher_.Release(teacher);
  if (it->second.joined) LogInfo(teacher, " ", why, ", ", released, " leases dispatched again");
  it->second.alive = it->second.joined = false;
  GrantLeases();
}

std::string Broker::StatusText() const {
  Json nodes = Json::array(), scalars = Json::object();
  for (const auto& [name, node] : nodes_) {
    nodes.push_back({{"name", name},
                     {"alive", node.alive && node.joined},
                     {"silent_seconds", SecondsSince(node.last_beat)},
                     {"progress", node.progress},
                     {"scalars", FiniteOnly(node.scalars)}});
    if (!IsTeacher(name)) scalars.update(FiniteOnly(node.scalars));
  }
  const TeacherScores::Stats s = scores_->stats();
  const Json cache{{"hits", s.hits},
                   {"misses", s.misses},
                   {"entries", s.entries},
                   {"bytes", s.bytes},
                   {"corrupt", s.corrupt},
                   {"evicted", s.evicted},
                   {"hit_mb_per_s", s.HitMegabytesPerSecond()}};
  const Json status{{"state", draining_         ? "draining"
                              : options_.replay ? "replay"
                                                : "running"},
                    {"step", static_cast<std::int64_t>(scalars.value("step", 0.0))},
                    {"steps", plan_.experiment.steps},
                    {"scalars", scalars},
                    {"cache", cache},
                    {"anchors", {{"asked", anchors_.asked}, {"cached", anchors_.cached}}},
                    {"in_flight", dispatcher_.leased()},
                    {"queued", dispatcher_.waiting()},
                    {"nodes", nodes}};
  return status.dump();
}

void Broker::LogSummary() const {
  const TeacherScores::Stats s = scores_->stats();
  LogInfo("served ", samples_.asked, " samples: ", samples_.cached, " from the cache, ",
          samples_.asked - samples_.cached, " not; ", dispatcher_.redispatched(), " leases dispatched again, ",
          dispatcher_.dropped(), " late answers dropped, ", data_.malformed() + control_.malformed(),
          " malformed messages");
  const double per_sample =
      1.0 / static_cast<double>(std::max<std::int64_t>(samples_.asked * plan_.experiment.data.micro_batch, 1));
  LogInfo("work per sample in forward-equivalents: generator ", generator_work_ * per_sample, ", fake score ",
          fake_score_work_ * per_sample, ", teacher ", samples_.work * per_sample, " for scores and ",
          anchors_.work * per_sample, " for anchors, together ",
          (generator_work_ + fake_score_work_ + samples_.work + anchors_.work) * per_sample);
  if (anchors_.asked > 0) LogInfo("served ", anchors_.asked, " anchors: ", anchors_.cached, " from the cache");
  if (s.hits > 0) LogInfo("cache hits read at ", s.HitMegabytesPerSecond(), " MB/s");
  if (plan_.topology.cache.enabled) {
    LogInfo("cache: ", s.entries, " entries, ", s.bytes, " bytes, ", s.evicted, " evicted, ", s.corrupt, " corrupt");
  }
}

}  // namespace sgmd
