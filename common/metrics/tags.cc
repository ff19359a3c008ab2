#include "common/metrics/tags.h"

#include <map>

namespace sgmd {

std::string TagOf(std::string_view scalar) {
  static const std::map<std::string_view, const char*> tags{
      {"generator_loss", "loss/generator"},
      {"fake_score_loss", "loss/fake_score"},
      {"diversity_loss", "loss/diversity"},
      {"fisher_loss", "loss/fisher"},
      {"negative_residual", "loss/negative_residual"},
      {"generator_learning_rate", "learning_rate/generator"},
      {"fake_score_learning_rate", "learning_rate/fake_score"},
      {"step_time_sec", "time/step_sec"},
      {"rollout_sec", "time/rollout_sec"},
      {"wait_sec", "time/wait_sec"},
      {"backward_sec", "time/backward_sec"},
      {"staleness", "pipeline/staleness"},
      {"inner_updates", "pipeline/inner_updates"},
      {"in_flight", "pipeline/in_flight"},
      {"cache_hit_rate", "cache/hit_rate"},
      {"anchor_hit_rate", "cache/anchor_hit_rate"},
  };
  if (const auto tag = tags.find(scalar); tag != tags.end()) return tag->second;
  const bool stability = scalar.ends_with("_ratio") || scalar.ends_with("_skipped_steps");
  return (stability ? "stability/" : "") + std::string(scalar);
}

}  // namespace sgmd
