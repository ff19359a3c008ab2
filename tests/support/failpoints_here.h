// Failpoints in the test's own process.
#pragma once

#include <cstdlib>
#include <string>

#include "common/failpoint/failpoint.h"

namespace sgmd {

/// `rules` (common/failpoint/failpoint.h) hold until the end of its life.
class FailpointsHere {
 public:
  explicit FailpointsHere(const std::string& rules) { Set(rules); }
  ~FailpointsHere() { Set(""); }
  FailpointsHere(const FailpointsHere&) = delete;

 private:
  static void Set(const std::string& rules) {
    ::setenv("SGMD_FAILPOINTS", rules.c_str(), 1);
    failpoint::SetProcess("broker");
  }
};

}  // namespace sgmd
