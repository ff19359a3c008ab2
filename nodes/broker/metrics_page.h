// The status of the run as a page for Prometheus.
#pragma once

#include <memory>
#include <string>

namespace sgmd {

/// Serves http://<listen>/metrics in threads of its own. What it shows is what the status says (status.h), as gauges:
///
///   sgmd_step, sgmd_steps, sgmd_seconds_per_step, sgmd_eta_seconds
///   sgmd_scalar{name}                    latest metrics of the trained roles, such as generator_loss
///   sgmd_leased, sgmd_waiting            requests with teachers, and for them
///   sgmd_dispatcher{name}                redispatched, speculated, dropped
///   sgmd_cache{name}                     hits, misses, entries, bytes, corrupt, evicted, lost, ...
///   sgmd_malformed_messages
///   sgmd_node_up{node,state}             1 for the state that the node is in, 0 for those that it was in
///   sgmd_node_idle_seconds{node}, sgmd_node_silent_seconds{node}, sgmd_node_progress{node}
///
/// Training never waits for it.
class MetricsPage {
 public:
  /// `listen`: "<address>:<port>", such as 127.0.0.1:9464. Throws Error when it cannot listen there.
  explicit MetricsPage(const std::string& listen);
  ~MetricsPage();

  /// `status`: the JSON of StatusText.
  void Update(const std::string& status);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
