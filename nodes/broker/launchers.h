// The launchers of the run's hosts, and the orders that they get.
#pragma once

#include <set>
#include <string>

#include "common/messages/control.h"
#include "common/transport/identity.h"
#include "common/transport/server.h"

namespace sgmd {

/// The number of teachers that are wanted goes to every launcher, also to one that comes later.
class Launchers {
 public:
  /// `control` outlives it. Messages are stamped as of `broker`.
  Launchers(Server& control, NodeIdentity broker) : control_(control), broker_(std::move(broker)) {}

  void Join(const std::string& launcher);
  /// Says what became of the order.
  message::Scaled OnScale(const message::Scale& scale);

 private:
  bool Send(const std::string& launcher) const;

  Server& control_;
  NodeIdentity broker_;
  std::set<std::string> joined_;
  message::Scale wanted_;  // the last order; 0 teachers: none came
};

}  // namespace sgmd
