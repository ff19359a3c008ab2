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
#include "nodes/broker/teacher_work.h"

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
  /// A Sample or an AnchorRequest; one that is not of the experiment, or was here before is dropped. Throws Error when
  /// it is not whole. Returns why the run cannot go on, or nothing: a value is not finite, or a replay misses an
  /// answer.
  [[nodiscard]] std::string OnRequest(const Envelope& request);
  /// One request for which the store has been asked gets its answer from there or, where there is none, from a teacher.
  /// Returns likewise why the run cannot go on, or an empty text; nothing where no such request is.
  [[nodiscard]] std::optional<std::string> ServeFromStore();
  /// A file descriptor that can be read from, as poll sees it, while ServeFromStore has something to do; or -1.
  int store_event() const { return answers_->found_event(); }
  /// The first valid answer fills the slot of its request, later ones are dropped. A teacher is sent away, and its
  /// answer is neither used nor kept, when it was never given this lease, or when the answer is of another kind, dtype
  /// or shape or is not finite. Returns why the run cannot go on, or nothing: a second process found no finite answer.
  [[nodiscard]] std::string OnAnswer(const std::string& teacher, const Envelope& answer);
  void OnCredit(const std::string& teacher, const message::Credit& credit);

  /// A teacher does not answer: its leases go to others until it is back (Resume).
  void Suspend(const std::string& teacher, const std::string& why);
  void Resume(const std::string& teacher);
  /// A teacher is gone, or starts anew.
  void Lose(const std::string& teacher, const std::string& why);
  /// Time has passed: leases that are too old go to others, and who had them gets no more until it sends an answer or
  /// asks for work.
  void Tick();

  /// Whether a request of a step before `step` has no answer yet.
  bool OpenBefore(std::int64_t step) const;
  /// Asks for all answers so far to survive a crash, and whether they do (AnswerStore).
  std::uint64_t RequestSafety() { return answers_->RequestSafety(); }
  bool AreSafe(std::uint64_t request) const { return answers_->IsSafe(request); }
  /// Whether requests wait for the store rather than for teachers: Tick soon.
  bool HeldBack() const { return held_back_; }

  const Dispatcher& dispatcher() const { return dispatcher_; }
  AnswerStore::Stats stats() const { return answers_->stats(); }
  const Counts& samples() const { return samples_; }
  const Counts& anchors() const { return anchors_; }

 private:
  struct Pending {
    Envelope request, lease;
    Digest key;
    bool was_not_finite = false;  // the answer of a teacher that was sent away for it
  };

  bool OfTheExperiment(wire::Kind kind, const message::Ticket& ticket, const std::vector<std::int64_t>& shape) const;
  Digest KeyOf(wire::Kind request, const Envelope& lease) const;
  AnswerPlace AnswerPlaceOf(const Envelope& request) const;
  std::uint64_t PlaceOf(wire::Kind request, const message::Ticket& ticket) const;
  Counts& CountsOf(wire::Kind request) { return request == wire::Kind::AnchorRequest ? anchors_ : samples_; }
  std::string MissText(const Envelope& request) const;
  std::string OnAbsent(std::uint64_t place);
  void GrantLeases();
  WorkResult ResultIn(const Envelope& answer, const std::string& teacher, wire::Kind request) const;
  std::string OnNotFinite(const std::string& teacher, Pending& pending);
  void Use(Pending done, const WorkResult& result);
  void SendAway(const std::string& teacher, const std::string& why);
  void Reply(const Envelope& request, TensorFrame result, bool cache_hit);

  const Experiment& experiment_;
  Digest run_id_;  // ExperimentDigest
  bool replay_;
  Members& members_;
  std::vector<std::int64_t> latent_shape_;  // [micro_batch, C, F, H, W]
  ScorerFingerprint scorer_;
  std::unique_ptr<AnswerStore> answers_;
  Dispatcher dispatcher_;
  std::map<std::uint64_t, Pending> pending_;  // requests without an answer, by their place in the run
  bool held_back_ = false;                    // no lease is granted while the store is behind
  Counts samples_, anchors_;
};

}  // namespace sgmd
