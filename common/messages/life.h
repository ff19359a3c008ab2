// Joining a run, its checkpoints and its end, on the data socket (schemas/wire.fbs says who sends what to whom).
#pragma once

#include "common/messages/fields.h"

namespace sgmd::message {

/// A message that says all by its kind.
template <wire::Kind kind>
struct Signal {
  static constexpr wire::Kind kKind = kind;

  template <typename Self, typename Io>
  static void Fields(Self& /*self*/, Io& /*io*/) {}
};

/// A message whose text is for a person.
template <wire::Kind kind>
struct Reason {
  static constexpr wire::Kind kKind = kind;
  std::string text;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::text, self.text);
  }
};

struct Hello {
  static constexpr wire::Kind kKind = wire::Kind::Hello;
  Digest model;  // of a teacher: ModelDigest of what it has loaded

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::digest, self.model);
  }
};

using Welcome = Signal<wire::Kind::Welcome>;
using Refused = Reason<wire::Kind::Refused>;
using Leave = Signal<wire::Kind::Leave>;
using Close = Signal<wire::Kind::Close>;
using Failed = Reason<wire::Kind::Failed>;

/// Stage your files as they are after `step` inner loops. It comes before any sample of step `step`, so that it never
/// comes too late.
struct CheckpointOrder {
  static constexpr wire::Kind kKind = wire::Kind::CheckpointOrder;
  std::int64_t step = 0;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::step, self.step);
  }
};

/// One of the files that an order asked for is in the staging folder; or, where the sender is not healthy, nothing is
/// and there shall be no checkpoint of this step.
struct CheckpointPart {
  static constexpr wire::Kind kKind = wire::Kind::CheckpointPart;
  std::int64_t step = 0;
  std::string file;                // its name
  Digest digest;                   // DigestFile of it
  std::int64_t files = 0;          // how many the order asked for, this one among them
  double forward_equivalents = 0;  // work of the sender since it started
  bool healthy = true;             // its last update was not skipped (StabilityMonitor)

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::step, self.step);
    io.Subject(self.file);
    io.Header(&Envelope::digest, self.digest);
    io.Number("files", self.files);
    io.Number("healthy", self.healthy);
    io.Scalar("forward_equivalents", self.forward_equivalents);
  }
};

struct Finished {
  static constexpr wire::Kind kKind = wire::Kind::Finished;
  std::int64_t step = 0;           // of the last checkpoint, which the student is of
  double forward_equivalents = 0;  // work of the sender since it started

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::step, self.step);
    io.Scalar("forward_equivalents", self.forward_equivalents);
  }
};

}  // namespace sgmd::message
