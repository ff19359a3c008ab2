// Which processes hang, by what the broker says of them.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace sgmd {

/// The broker calls a node stalled that works without progress, or is not heard of (nodes/broker/status.h). This is
/// acted upon when it has said so three times in a row: the launcher itself may have been held up, and then the first
/// statuses that it reads are of that time.
class StallWatch {
 public:
  struct Stalled {
    std::string name, why;  // why: "made no progress for 12 s while it worked"
  };
  /// Those of which this status is the third in a row.
  std::vector<Stalled> OnStatus(const std::string& status_json);

 private:
  std::map<std::string, int> counts_;  // statuses in a row
};

}  // namespace sgmd
