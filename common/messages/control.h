// What is said on the control socket (schemas/wire.fbs says who sends what to whom).
#pragma once

#include "common/messages/life.h"

namespace sgmd::message {

/// A sign of life (common/transport/heartbeat.h sends it).
struct Beat {
  static constexpr wire::Kind kKind = wire::Kind::Beat;
  std::int64_t progress = 0;              // units of work done since the sender started (WorkDone)
  bool waiting = false;                   // for others, not at work
  std::map<std::string, double> metrics;  // the latest, by name

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::progress, self.progress);
    io.Number("waiting", self.waiting);
    io.Scalars(self.metrics);
  }
};

using StatusRequest = Signal<wire::Kind::StatusRequest>;
using Drain = Signal<wire::Kind::Drain>;

struct Status {
  static constexpr wire::Kind kKind = wire::Kind::Status;
  std::string json;  // an object (nodes/broker/status.h)

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::text, self.json);
  }
};

/// How many teachers are wanted, on all hosts together.
struct Scale {
  static constexpr wire::Kind kKind = wire::Kind::Scale;
  std::int64_t teachers = 0;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Number("teachers", self.teachers);
  }
};

/// What became of an order to scale.
struct Scaled {
  static constexpr wire::Kind kKind = wire::Kind::Scaled;
  std::string problem;  // empty: the launcher has it

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::text, self.problem);
  }
};

struct NodeExited {
  static constexpr wire::Kind kKind = wire::Kind::NodeExited;
  std::string node;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Subject(self.node);
  }
};

/// A process that the run needs ended on another host than the broker's.
struct RoleFailed {
  static constexpr wire::Kind kKind = wire::Kind::RoleFailed;
  std::string node;
  std::string last_lines;      // of its log
  std::int64_t code = 0;       // its exit code
  std::int64_t by_signal = 0;  // the signal that ended it, or 0

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Subject(self.node);
    io.Header(&Envelope::text, self.last_lines);
    io.Number("code", self.code);
    io.Number("signal", self.by_signal);
  }
};

}  // namespace sgmd::message
