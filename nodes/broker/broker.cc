#include "nodes/broker/broker.h"

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/log/log.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kTick{100};

bool IsTeacher(const std::string& node) { return node.starts_with("teacher."); }
double Work(const Envelope& e) {
  const auto it = e.scalars.find("forward_equivalents");
  return it == e.scalars.end() ? 0 : it->second;
}
bool IsTrainedRole(const std::string& node) { return node == "generator" || node == "fake_score"; }

}  // namespace

Broker::Broker(LaunchPlan plan, Options options)
    : plan_(std::move(plan)),
      options_(options),
      run_id_(ExperimentDigest(plan_.experiment)),
      scorer_{ModelDigest(plan_.experiment.teacher), plan_.experiment.guidance},
      data_(plan_.topology.data_endpoint),
      control_(plan_.topology.control_endpoint),
      dispatcher_(std::chrono::duration<double>(plan_.topology.lease_seconds)) {
  if (options_.replay && !plan_.topology.cache_enabled) throw Error("replay needs [cache] enabled = true");
  if (!plan_.topology.cache_enabled) return;
  cache_.emplace(plan_.topology.cache_folder, plan_.topology.cache_limit_gib);
  if (options_.replay) {
    cache_->RequireFingerprint(scorer_);
  } else {
    cache_->RecordFingerprint(scorer_);
  }
}

int Broker::Run(const volatile bool& stop) {
  LogInfo("serving on ", plan_.topology.data_endpoint, options_.replay ? ", replay" : "", ", cache ",
          cache_ ? plan_.topology.cache_folder.string() : "off");
  while (!exit_code_ && !stop) {
    Server::Wait({&data_, &control_}, kTick);
    while (auto in = control_.TryReceive()) OnControl(*in);
    while (auto in = exit_code_ ? std::nullopt : data_.TryReceive()) OnData(*in);
    OnTick();
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

void Broker::Forward(const std::string& peer, const Envelope& envelope) {
  if (!nodes_[peer].joined) {
    outbox_[peer].push_back(envelope);
  } else if (!data_.Send(peer, envelope)) {
    LogWarning(peer, " is unreachable; a ", wire::EnumNameKind(envelope.kind), " for it is lost");
  }
}

void Broker::OnData(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (e.kind == wire::Kind::Hello) return OnHello(in);
  if (!Mine(e)) return LogDebug("dropped a message of another run or epoch from ", in.peer);
  switch (e.kind) {
    case wire::Kind::Sample: return OnSample(e);
    case wire::Kind::Score: return OnScore(e);
    case wire::Kind::Credit:
      dispatcher_.AddCredit(in.peer, e.count);
      return GrantLeases();
    case wire::Kind::Leave: return LoseTeacher(in.peer, "left");
    case wire::Kind::Gradient: return Forward("generator", e);
    case wire::Kind::InnerSample: return Forward("fake_score", e);
    case wire::Kind::CheckpointPart:
      if (in.peer == "generator") return Forward("fake_score", e);
      if (cache_) cache_->Sync();  // before the commit, so that a resumed run finds every earlier score
      fake_score_work_ = Work(e);
      return Forward("generator", e);
    case wire::Kind::Finished:
      generator_work_ = Work(e);
      LogInfo("finished at step ", e.step);
      return Finish(wire::Kind::Close, "", 0);
    default: LogWarning("unexpected ", wire::EnumNameKind(e.kind), " from ", in.peer);
  }
}

void Broker::OnHello(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  std::string refusal;
  if (!Mine(e)) {
    refusal = StrCat("it belongs to run ", e.run_id.Hex(), " epoch ", e.epoch, ", this is run ", run_id_.Hex(), " epoch ",
                     options_.epoch);
  } else if (IsTeacher(in.peer) && e.digest != scorer_.teacher) {
    refusal = StrCat("its model is ", e.digest.Hex(), ", the experiment's teacher is ", scorer_.teacher.Hex());
  } else if (!IsTeacher(in.peer) && !IsTrainedRole(in.peer)) {
    refusal = "no role has this name";
  } else if (IsTeacher(in.peer) && options_.replay) {
    refusal = "a replay has no teachers";
  }
  if (!refusal.empty()) {
    LogWarning("refused ", in.peer, ": ", refusal);
    data_.Send(in.peer, Make(wire::Kind::Refused, refusal));
    return;
  }
  if (nodes_[in.peer].joined && IsTeacher(in.peer)) LoseTeacher(in.peer, "started anew");
  Node& node = nodes_[in.peer];
  node.joined = node.alive = true;
  node.last_beat = std::chrono::steady_clock::now();
  LogInfo(in.peer, " joined");
  data_.Send(in.peer, Make(wire::Kind::Welcome));
  for (const Envelope& waiting : outbox_[in.peer]) data_.Send(in.peer, waiting);
  outbox_.erase(in.peer);
}

std::uint64_t Broker::TicketOf(const Envelope& sample) const {
  return static_cast<std::uint64_t>(sample.step) * static_cast<std::uint64_t>(plan_.experiment.micro_batches) +
         static_cast<std::uint64_t>(sample.index);
}

void Broker::OnSample(const Envelope& sample) {
  ++samples_;
  Digest key;
  try {
    for (const char* name : {"x_g", "x_s", "sigma", "prompts"}) sample.At(name);
    if (cache_) {
      key = ScoreKey(scorer_, sample);
      if (const auto velocity = cache_->Lookup(key)) return ForwardScored(sample, *velocity, true);
    }
  } catch (const Error& error) {
    return LogWarning("dropped a sample: ", error.message());
  }
  if (options_.replay) {
    return Finish(wire::Kind::Failed,
                  StrCat("replay: no score recorded for step ", sample.step, ", micro-batch ", sample.index, " (",
                         scorer_.Text(), "); the experiment differs from the recorded one, goes on longer, or the cache lost entries"),
                  1);
  }
  pending_[TicketOf(sample)] = {sample, key};
  dispatcher_.Add(TicketOf(sample));
  GrantLeases();
}

void Broker::GrantLeases() {
  while (const auto lease = dispatcher_.NextLease(std::chrono::steady_clock::now())) {
    const Envelope& sample = pending_.at(lease->ticket).sample;
    Envelope message = Make(wire::Kind::Lease);
    message.request_id = lease->ticket;
    message.attempt = lease->attempt;
    message.step = sample.step;
    message.index = sample.index;
    message.tensors = {sample.At("x_s"), sample.At("sigma"), sample.At("prompts")};
    if (!data_.Send(lease->teacher, message)) LoseTeacher(lease->teacher, "is unreachable");
  }
}

void Broker::OnScore(const Envelope& score) {
  const auto it = pending_.find(score.request_id);
  if (it == pending_.end()) {
    dispatcher_.Accept(score.request_id);  // counts it as dropped
    return;
  }
  teacher_work_ += Work(score);
  const TensorFrame* velocity = score.Find("velocity");
  const TensorView& x_s = it->second.sample.At("x_s").view;
  if (velocity == nullptr || velocity->view.dtype != DType::kF32 || velocity->view.shape != x_s.shape) {
    return LogWarning("dropped a misshapen score of ", score.node);
  }
  dispatcher_.Accept(score.request_id);
  const Pending done = std::move(it->second);
  pending_.erase(it);
  ForwardScored(done.sample, *velocity, false);
  if (cache_) cache_->Store(done.key, *velocity);
}

void Broker::ForwardScored(const Envelope& sample, const TensorFrame& velocity, bool cache_hit) {
  Envelope scored = sample;
  scored.kind = wire::Kind::ScoredSample;
  scored.scalars["cache_hit"] = cache_hit ? 1 : 0;
  scored.tensors.push_back(velocity);
  Forward("fake_score", scored);
}

void Broker::LoseTeacher(const std::string& teacher, const std::string& why) {
  if (!IsTeacher(teacher)) return;
  Node& node = nodes_[teacher];
  const int released = dispatcher_.Release(teacher);
  if (node.alive || released > 0) LogInfo(teacher, " ", why, ", ", released, " leases dispatched again");
  node.alive = node.joined = false;
  GrantLeases();
}

void Broker::OnControl(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (!Mine(e)) {
    if (e.kind == wire::Kind::Hello) control_.Send(in.peer, Make(wire::Kind::Refused, "it belongs to another run or epoch"));
    return;
  }
  switch (e.kind) {
    case wire::Kind::Hello: control_.Send(in.peer, Make(wire::Kind::Welcome)); return;
    case wire::Kind::Beat: {
      Node& node = nodes_[in.peer];
      node.last_beat = std::chrono::steady_clock::now();
      node.progress = e.version;
      for (const auto& [name, value] : e.scalars) node.scalars[name] = value;
      return;
    }
    case wire::Kind::StatusRequest: return OnStatusRequest(in.peer);
    case wire::Kind::Drain:
      LogInfo("draining: the generator finishes its step and checkpoints");
      control_.Send("generator", Make(wire::Kind::Drain));
      return;
    case wire::Kind::Scale: {
      Envelope scale = Make(wire::Kind::Scale);
      scale.count = e.count;
      const bool sent = control_.Send("launcher", scale);
      control_.Send(in.peer, sent ? Make(wire::Kind::Welcome) : Make(wire::Kind::Refused, "no launcher is connected"));
      return;
    }
    case wire::Kind::NodeExited: return LoseTeacher(e.text, "exited");
    default: LogWarning("unexpected ", wire::EnumNameKind(e.kind), " on the control socket from ", in.peer);
  }
}

void Broker::OnStatusRequest(const std::string& peer) {
  nlohmann::ordered_json status{{"state", options_.replay ? "replay" : "running"}, {"steps", plan_.experiment.steps}};
  nlohmann::ordered_json scalars = nlohmann::ordered_json::object(), nodes = nlohmann::ordered_json::array();
  const auto now = std::chrono::steady_clock::now();
  for (const auto& [name, node] : nodes_) {
    nodes.push_back({{"name", name},
                     {"alive", node.alive && node.joined},
                     {"silent_seconds", std::chrono::duration<double>(now - node.last_beat).count()},
                     {"progress", node.progress},
                     {"scalars", node.scalars}});
    if (IsTrainedRole(name)) scalars.update(nlohmann::ordered_json(node.scalars));
  }
  status["step"] = scalars.value("step", 0.0);
  status["scalars"] = scalars;
  const ScoreCache::Stats s = cache_ ? cache_->stats() : ScoreCache::Stats{};
  status["cache"] = {{"hits", s.hits},       {"misses", s.misses},   {"entries", s.entries}, {"bytes", s.bytes},
                     {"corrupt", s.corrupt}, {"evicted", s.evicted}};
  status["in_flight"] = dispatcher_.leased();
  status["queued"] = dispatcher_.waiting();
  status["nodes"] = nodes;
  control_.Send(peer, Make(wire::Kind::Status, status.dump()));
}

void Broker::OnTick() {
  const auto now = std::chrono::steady_clock::now();
  if (const int expired = dispatcher_.Expire(now); expired > 0) {
    LogWarning(expired, " leases expired and are dispatched again");
    GrantLeases();
  }
  for (auto& [name, node] : nodes_) {
    const double silent = std::chrono::duration<double>(now - node.last_beat).count();
    if (!node.joined || !node.alive || silent <= plan_.topology.silence_seconds) continue;
    if (IsTeacher(name)) return LoseTeacher(name, StrCat("is silent for ", silent, " s"));
    return Finish(wire::Kind::Failed, StrCat(name, " is silent for ", silent, " s"), 1);
  }
}

void Broker::Finish(wire::Kind kind, const std::string& text, int exit_code) {
  if (!text.empty()) LogError(text);
  for (const auto& [name, node] : nodes_) {
    if (node.joined) data_.Send(name, Make(kind, text));
  }
  exit_code_ = exit_code;
}

void Broker::LogSummary() const {
  const ScoreCache::Stats s = cache_ ? cache_->stats() : ScoreCache::Stats{};
  LogInfo("served ", samples_, " samples: ", s.hits, " from the cache, ", dispatcher_.redispatched(), " leases dispatched again, ",
          dispatcher_.dropped(), " late answers dropped, ", data_.malformed() + control_.malformed(), " malformed messages");
  const double per_sample = 1.0 / static_cast<double>(std::max<std::int64_t>(samples_ * plan_.experiment.micro_batch, 1));
  LogInfo("work per sample in forward-equivalents: generator ", generator_work_ * per_sample, ", fake score ",
          fake_score_work_ * per_sample, ", teacher ", teacher_work_ * per_sample, ", together ",
          (generator_work_ + fake_score_work_ + teacher_work_) * per_sample);
  if (s.hits > 0) LogInfo("cache hits read at ", s.hit_bytes / s.hit_seconds / 1e6, " MB/s");
  if (cache_) LogInfo("cache: ", s.entries, " entries, ", s.bytes, " bytes, ", s.evicted, " evicted, ", s.corrupt, " corrupt");
}

}  // namespace sgmd
