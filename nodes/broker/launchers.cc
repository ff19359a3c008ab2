#include "nodes/broker/launchers.h"

#include "common/config/role.h"

namespace sgmd {

void Launchers::Join(const std::string& launcher) {
  if (joined_.insert(launcher).second && wanted_.teachers != 0) control_.Post(launcher, ToEnvelope(wanted_));
}

message::Scaled Launchers::OnScale(const message::Scale& scale) {
  wanted_ = scale;
  for (const std::string& launcher : joined_) control_.Post(launcher, ToEnvelope(wanted_));
  // That of the broker's host has no further name.
  return {joined_.contains(Spell(Role::kLauncher)) ? "" : "no launcher is connected"};
}

}  // namespace sgmd
