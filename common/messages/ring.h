// What travels round the ring on the data socket (schemas/wire.fbs says who sends what to whom). Latents are float32
// [B, C, F, H, W]; sigma is float32 [B]; prompts are digests, uint8 [B, 16]; B is the experiment's micro-batch.
#pragma once

#include "common/messages/fields.h"

namespace sgmd::message {

/// Which micro-batch of the run a message is about: its prompts, noise and sigma follow from it.
struct Ticket {
  std::int64_t step = 0;   // outer iteration, from 0
  std::int32_t index = 0;  // micro-batch within it, from 0

  auto operator<=>(const Ticket&) const = default;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::step, self.step);
    io.Header(&Envelope::index, self.index);
  }
};

/// Which lease a teacher was given and answers.
struct LeaseNumber {
  std::uint64_t request = 0;  // the same for every lease of a request
  std::uint32_t attempt = 0;  // from 1

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::request_id, self.request);
    io.Header(&Envelope::attempt, self.attempt);
  }
};

struct Sample {
  static constexpr wire::Kind kKind = wire::Kind::Sample;
  Ticket ticket;
  std::int64_t version = 0;  // updates behind the student that rolled it out
  TensorFrame x_g;           // the student's estimate of the clean latent
  TensorFrame x_s;           // x_g noised to sigma
  TensorFrame sigma, prompts;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    io.Number("version", self.version);
    io.Tensor("x_g", self.x_g, DType::kF32, {kAny, kRest});
    io.Tensor("x_s", self.x_s, DType::kF32, self.x_g.view.shape);
    io.Tensor("sigma", self.sigma, DType::kF32, {BatchOf(self.x_g)});
    io.Tensor("prompts", self.prompts, DType::kU8, {BatchOf(self.x_g), 16});
  }
};

/// Its tensors, in this order, are what the key of a score covers.
struct ScoreLease {
  static constexpr wire::Kind kKind = wire::Kind::ScoreLease;
  Ticket ticket;
  LeaseNumber lease;
  TensorFrame sigma, prompts, x_s;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    LeaseNumber::Fields(self.lease, io);
    io.Tensor("sigma", self.sigma, DType::kF32, {kAny});
    io.Tensor("prompts", self.prompts, DType::kU8, {BatchOf(self.sigma), 16});
    io.Tensor("x_s", self.x_s, DType::kF32, {BatchOf(self.sigma), kRest});
  }
};

struct Score {
  static constexpr wire::Kind kKind = wire::Kind::Score;
  Ticket ticket;
  LeaseNumber lease;
  double forward_equivalents = 0;  // work that it took
  TensorFrame velocity;            // guided, shape of x_s, in the dtype of [precision] scores

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    LeaseNumber::Fields(self.lease, io);
    io.Scalar("forward_equivalents", self.forward_equivalents);
    io.Tensor("velocity", self.velocity, {DType::kF32, DType::kBF16}, {kAny, kRest});
  }
};

struct ScoredSample {
  static constexpr wire::Kind kKind = wire::Kind::ScoredSample;
  Sample sample;
  bool cache_hit = false;
  TensorFrame velocity;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Sample::Fields(self.sample, io);
    io.Number("cache_hit", self.cache_hit);
    io.Tensor("velocity", self.velocity, {DType::kF32, DType::kBF16}, self.sample.x_s.view.shape);
  }
};

struct Gradient {
  static constexpr wire::Kind kKind = wire::Kind::Gradient;
  Ticket ticket;
  std::int64_t version = 0;             // updates behind the fake score that took it
  bool cache_hit = false;               // whether the teacher's score came from the cache
  std::map<std::string, double> terms;  // of the loss, by name
  TensorFrame gradient;                 // dL/dx_g

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    io.Number("version", self.version);
    io.Number("cache_hit", self.cache_hit);
    io.Scalars(self.terms);
    io.Tensor("gradient", self.gradient, DType::kF32, {kAny, kRest});
  }
};

/// A rollout for the inner loop of step `ticket.step` alone.
struct InnerSample {
  static constexpr wire::Kind kKind = wire::Kind::InnerSample;
  Ticket ticket;
  std::int64_t update = 0;  // of the inner loop, from 0
  TensorFrame x_g, prompts;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    io.Number("update", self.update);
    io.Tensor("x_g", self.x_g, DType::kF32, {kAny, kRest});
    io.Tensor("prompts", self.prompts, DType::kU8, {BatchOf(self.x_g), 16});
  }
};

struct AnchorRequest {
  static constexpr wire::Kind kKind = wire::Kind::AnchorRequest;
  Ticket ticket;
  TensorFrame noise, prompts;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    io.Tensor("noise", self.noise, DType::kF32, {kAny, kRest});
    io.Tensor("prompts", self.prompts, DType::kU8, {BatchOf(self.noise), 16});
  }
};

/// Its tensors, in this order, are what the key of an anchor covers.
struct AnchorLease {
  static constexpr wire::Kind kKind = wire::Kind::AnchorLease;
  AnchorRequest request;
  LeaseNumber lease;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    AnchorRequest::Fields(self.request, io);
    LeaseNumber::Fields(self.lease, io);
  }
};

struct Anchor {
  static constexpr wire::Kind kKind = wire::Kind::Anchor;
  Ticket ticket;
  LeaseNumber lease;
  double forward_equivalents = 0;  // work that it took
  TensorFrame x_a;                 // shape of the noise

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    LeaseNumber::Fields(self.lease, io);
    io.Scalar("forward_equivalents", self.forward_equivalents);
    io.Tensor("x_a", self.x_a, DType::kF32, {kAny, kRest});
  }
};

struct ServedAnchor {
  static constexpr wire::Kind kKind = wire::Kind::ServedAnchor;
  Ticket ticket;
  bool cache_hit = false;
  TensorFrame x_a;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    Ticket::Fields(self.ticket, io);
    io.Number("cache_hit", self.cache_hit);
    io.Tensor("x_a", self.x_a, DType::kF32, {kAny, kRest});
  }
};

/// A part of what is trained of the student, after the update of step `step`. The tensors have the names of the
/// parameters, in the order of the model, which goes on from chunk to chunk.
struct StudentWeights {
  static constexpr wire::Kind kKind = wire::Kind::StudentWeights;
  std::int64_t step = 0;
  std::int32_t chunk = 0;   // from 0
  std::int64_t chunks = 1;  // of the step
  std::vector<TensorFrame> tensors;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Header(&Envelope::step, self.step);
    io.Header(&Envelope::index, self.chunk);
    io.Number("chunks", self.chunks);
    io.Tensors(self.tensors, DType::kF32);
  }
};

/// A teacher is ready for more leases.
struct Credit {
  static constexpr wire::Kind kKind = wire::Kind::Credit;
  std::int64_t leases = 1;

  template <typename Self, typename Io>
  static void Fields(Self& self, Io& io) {
    io.Number("leases", self.leases);
  }
};

}  // namespace sgmd::message
