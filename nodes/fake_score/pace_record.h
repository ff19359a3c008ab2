// In which order the fake score did what decides the weights, where timing decides it: written as the run goes, and
// followed by a replay.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nodes/fake_score/inner_pace.h"

namespace sgmd {

/// <run>/pace: a line a step, "<step>: " and its events in order: "u7", an update on samples up to those of step 7;
/// "g2", the gradient of micro-batch 2. A line is written when its step is over, before a checkpoint that holds the
/// step.
class PaceRecord {
 public:
  using Events = std::vector<PaceEvent>;

  /// The run goes on at `step`: lines of it and of later steps are dropped from `file`, whose steps will be done anew.
  /// `to_follow`: the record of another run, or a file that is not there. Throws Error when one cannot be read.
  PaceRecord(std::filesystem::path file, const std::filesystem::path& to_follow, std::int64_t step);

  /// Whether an order is followed: then Next is what must come next in the step, and nothing where it is over, or where
  /// the record does not have the step.
  bool follows() const { return follows_; }
  std::optional<PaceEvent> Next() const;
  bool Over() const;
  void Did(const PaceEvent& event) { done_.push_back(event); }
  /// The step is over: its line is written. Throws Error when it cannot be.
  void FinishStep();
  /// Makes all lines survive a crash of the machine.
  void Sync() const;

 private:
  std::filesystem::path file_;
  bool follows_ = false;
  std::map<std::int64_t, Events> to_follow_;
  std::int64_t step_;
  Events done_;  // in the step
};

/// "u7 g0".
std::string Spell(const PaceRecord::Events& events);

}  // namespace sgmd
