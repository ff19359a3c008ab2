// How a run stands, whether it is up or has ended.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "common/transport/client.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_control.h"
#include "launch/run/run_history.h"

namespace sgmd {

/// `state`:
///
///   running, draining, replay              it is up: the broker's word
///   starting                               it is up, and its broker does not answer yet
///   finishing                              its steps are done, and its evaluator is not
///   finished, drained, failed, killed      it has ended: Outcome
///   never_started
struct RunState {
  std::string state = "never_started";
  std::int64_t step = 0;                  // of the live run; of the newest checkpoint of one that has ended
  std::int64_t steps = 0;                 // 0: not known
  std::filesystem::path folder, student;  // student: empty where there is none yet
  std::string since;                      // of the last start, or of the end; ISO 8601 UTC, empty where nothing says
  std::string cause;                      // why it failed or was killed, in a sentence; else ""
  int exit_code = kExitRefused;           // of a run that has ended: exit_codes.h
  std::optional<RunLock::Holder> holder;  // the launcher of a run that is up
  nlohmann::json live;                    // the broker's status; null where it does not answer

  bool up() const { return holder.has_value(); }
  /// What a person is likely to type next.
  std::string NextCommand() const;
};

/// Asks again and again how the run in a folder stands; keeps its connection to the broker in between.
class RunWatch {
 public:
  explicit RunWatch(std::filesystem::path run_folder) : folder_(std::move(run_folder)) {}
  /// Throws Error only where the run folder's files cannot be read.
  RunState Now();

 private:
  nlohmann::json AskBroker();

  std::filesystem::path folder_;
  std::unique_ptr<Client> client_;
};

/// Calls `show` with how the run stands, once a second, until it is not up. Returns its exit code (kExitRefused where
/// it never started), or nothing after `limit`.
std::optional<int> FollowToTheEnd(const std::filesystem::path& run_folder,
                                  const std::function<void(const RunState&)>& show,
                                  std::optional<std::chrono::duration<double>> limit = {});

/// One object with the keys state, step, steps, run_folder, student, since, cause, exit_code, pid, machine,
/// next_command and live, always all of them; what is not known is null.
nlohmann::ordered_json ToJson(const RunState& state);

}  // namespace sgmd
