#include "nodes/broker/launchers.h"

namespace sgmd {

void Launchers::Join(const std::string& launcher) {
  joined_.insert(launcher);
  if (wanted_.teachers != 0) Send(launcher);
}

message::Scaled Launchers::OnScale(const message::Scale& scale) {
  wanted_ = scale;
  bool sent = false;
  for (const std::string& launcher : joined_) {
    // That of the broker's host has no further name.
    if (Send(launcher) && launcher == "launcher") sent = true;
  }
  return {sent ? "" : "no launcher is connected"};
}

bool Launchers::Send(const std::string& launcher) const {
  Envelope order = ToEnvelope(wanted_);
  Stamp(order, broker_);
  return control_.Send(launcher, order);
}

}  // namespace sgmd
