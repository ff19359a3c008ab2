#include "common/transport/link.h"

#include <algorithm>
#include <utility>

namespace sgmd {

void Link::Push(Envelope envelope) {
  envelope.number = sent() + 1;
  kept_.push_back(std::move(envelope));
}

const Envelope* Link::ToSend() {
  if (given_ == kept_.size()) return nullptr;
  kept_[given_].received = received_;
  return &kept_[given_];
}

Envelope Link::Say(wire::Kind kind) const {
  Envelope envelope;
  envelope.kind = kind;
  envelope.number = sent();
  envelope.received = received_;
  return envelope;
}

Link::Arrival Link::OnArrival(std::uint64_t number) {
  if (number <= received_) return Arrival::kDrop;
  if (number > received_ + 1) {
    return std::exchange(asked_for_, received_ + 1) == received_ + 1 ? Arrival::kDrop : Arrival::kGap;
  }
  received_ = number;
  return Arrival::kNext;
}

void Link::Acknowledge(std::uint64_t number) {
  while (acknowledged_ < number && !kept_.empty()) {
    kept_.pop_front();
    ++acknowledged_;
    given_ -= std::min<std::size_t>(given_, 1);
  }
}

bool IsNumbered(wire::Kind kind) {
  switch (kind) {
    case wire::Kind::Hello:
    case wire::Kind::Welcome:
    case wire::Kind::Refused:
    case wire::Kind::Receipt:
    case wire::Kind::Missing:
    case wire::Kind::WhoAreYou:
    case wire::Kind::Beat:
    case wire::Kind::StatusRequest:
    case wire::Kind::Status:
      return false;
    default:
      return true;
  }
}

}  // namespace sgmd
