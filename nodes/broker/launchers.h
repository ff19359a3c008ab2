// The launchers of the run's hosts, and the orders that they get.
#pragma once

#include <set>
#include <string>

#include "common/messages/control.h"
#include "common/transport/peers.h"

namespace sgmd {

/// The number of teachers that are wanted goes to every launcher, also to one that comes later.
class Launchers {
 public:
  /// `control`: the peers on the control socket; it outlives this.
  explicit Launchers(Peers& control) : control_(control) {}

  void Join(const std::string& launcher);
  /// Says what became of the order.
  message::Scaled OnScale(const message::Scale& scale);

 private:
  Peers& control_;
  std::set<std::string> joined_;
  message::Scale wanted_;  // the last order; 0 teachers: none came
};

}  // namespace sgmd
