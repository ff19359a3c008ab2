// From requests to answers: out of the store, or from a teacher that is leased the work.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "common/messages/ring.h"
#include "nodes/broker/answer_key.h"
#include "nodes/broker/answer_store.h"
#include "nodes/broker/dispatcher.h"
#include "nodes/broker/members.h"

namespace sgmd {

/// Owns the requests without an answer, the leases and the store. Which teacher computes an answer, and whether any
/// does, changes no byte of it.
class TeacherService {
 public:
  struct Counts {
    std::int64_t asked = 0, cached = 0;  // micro-batches
    double work = 0;                     // of teachers, forward-equivalents since the start
  };

  /// `plan` and `members` outlive it. `replay`: answers come from the store alone. Throws Error when the store cannot
  /// be opened, or when a replay finds nothing recorded.
  TeacherService(const LaunchPlan& plan, bool replay, Members& members);

  /// Why a teacher with this model cannot join; empty when it can.
  std::string RefusalOf(const Digest& model) const;
  /// A Sample or an AnchorRequest; one that is not whole, is not of the experiment, or was here before is dropped.
  /// Returns why the run cannot go on (a replay misses an answer), or nothing.
  std::string OnRequest(const Envelope& request);
  /// The first valid answer fills the slot of its request, later ones are dropped. A teacher whose answer is of another
  /// kind, dtype or shape is sent away.
  void OnAnswer(const std::string& teacher, const Envelope& answer);
  void OnCredit(const std::string& teacher, const message::Credit& credit);

  /// A teacher does not answer: its leases go to others until it is back (Resume).
  void Suspend(const std::string& teacher, const std::string& why);
  void Resume(const std::string& teacher);
  /// A teacher is gone, or starts anew.
  void Lose(const std::string& teacher, const std::string& why);
  /// Leases that are too old go to others.
  void ExpireLeases();

  /// Whether a request of a step before `step` has no answer yet.
  bool OpenBefore(std::int64_t step) const;
  /// Makes all answers so far survive a crash.
  void SyncAnswers() { answers_->Sync(); }

  const Dispatcher& dispatcher() const { return dispatcher_; }
  AnswerStore::Stats stats() const { return answers_->stats(); }
  const Counts& samples() const { return samples_; }
  const Counts& anchors() const { return anchors_; }

 private:
  struct Pending {
    Envelope request, lease;
    Digest key;
  };

  bool OfTheExperiment(wire::Kind kind, const message::Ticket& ticket, const std::vector<std::int64_t>& shape) const;
  Digest KeyOf(wire::Kind request, const Envelope& lease) const;
  std::uint64_t PlaceOf(wire::Kind request, const message::Ticket& ticket) const;
  Counts& CountsOf(wire::Kind request) { return request == wire::Kind::AnchorRequest ? anchors_ : samples_; }
  std::string MissText(wire::Kind request, const message::Ticket& ticket) const;
  void GrantLeases();
  void SendAway(const std::string& teacher, const std::string& why);
  void Reply(const Envelope& request, TensorFrame result, bool cache_hit);

  const Experiment& experiment_;
  bool replay_;
  Members& members_;
  std::vector<std::int64_t> latent_shape_;  // [micro_batch, C, F, H, W]
  ScorerFingerprint scorer_;
  std::unique_ptr<AnswerStore> answers_;
  Dispatcher dispatcher_;
  std::map<std::uint64_t, Pending> pending_;  // requests without an answer, by their place in the run
  Counts samples_, anchors_;
};

}  // namespace sgmd
