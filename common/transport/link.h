// What keeps messages between two processes from being lost: numbers, receipts, and sending again.
#pragma once

#include <cstdint>
#include <deque>

#include "common/transport/envelope.h"

namespace sgmd {

/// One end of the messages between two processes, over as many connections as it takes. Numbered messages are kept by
/// their sender until the other end says that it has them, and arrive once and in order. ZeroMQ itself forgets what
/// lies in the pipe of a connection that breaks.
///
///   event                                      what happens
///   Push                                       the message gets the next number and is kept
///   a message with the number received + 1     kNext: it is dealt with, and received counts it
///   a message with a lower number              kDrop: it was dealt with before
///   a message with a higher number             kGap: it is dropped, and the receiver asks for what it lacks (Missing);
///                                              kDrop for those behind it, which come out of order too
///   Acknowledge(n), on every message           all up to n is forgotten
///   Rewind: a new connection, or Missing       all that is kept is sent again
///   Receipt: "I have sent n"                   a receiver with less than n asks for what it lacks, since the receipt
///                                              came behind all of it on the same connection
///
/// A state machine without sockets or clocks. Messages without a number (0) pass by it: what is asked again anyway.
class Link {
 public:
  enum class Arrival { kNext, kDrop, kGap };

  void Push(Envelope envelope);
  /// The next message that this connection has not been given, with a receipt for what came; null when there is none.
  /// Advance: it has been.
  const Envelope* ToSend();
  void Advance() { ++given_; }
  void Rewind() { given_ = 0; }

  Arrival OnArrival(std::uint64_t number);
  /// The other end has everything up to `number`.
  void Acknowledge(std::uint64_t number);

  /// A Receipt or a Missing: what has been sent and received so far.
  Envelope Say(wire::Kind kind) const;

  /// How many messages were numbered, and how many of the other end's were dealt with.
  std::uint64_t sent() const { return acknowledged_ + kept_.size(); }
  std::uint64_t received() const { return received_; }
  /// How many of `sent` the other end is known to have.
  std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  std::deque<Envelope> kept_;  // numbers acknowledged_ + 1 on
  std::size_t given_ = 0;      // of kept_, to this connection
  std::uint64_t acknowledged_ = 0, received_ = 0;
  std::uint64_t asked_for_ = 0;  // the number that was missing last
};

/// Whether messages of this kind are numbered. Others are repeated by whoever needs the answer: what lets a process in,
/// signs of life, requests for the status.
bool IsNumbered(wire::Kind kind);

}  // namespace sgmd
