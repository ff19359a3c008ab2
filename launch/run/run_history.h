// <run>/history.jsonl: when a run was started, what was restarted in it and how it ended. Only the launcher of the head
// writes it; everybody may read it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sgmd {

enum class Outcome { kFinished, kDrained, kFailed, kKilled };
/// "finished", as in the file.
std::string Spell(Outcome outcome);
/// As exit_codes.h says.
Outcome OutcomeOf(int exit_code);

/// {"event":"restart"}: within a start, something died and went on.
struct RunRestart {
  std::string time;                       // ISO 8601, UTC: "2026-11-24T21:03:11Z"
  std::uint64_t epoch = 0;                // that the run went on with
  std::string process, cause;             // what died, and why
  std::optional<std::int64_t> from_step;  // the checkpoint that all went on from; nothing: this process alone (a
                                          // teacher) was started again
};

/// {"event":"end"}.
struct RunEnd {
  std::string time;  // "" where nothing wrote it down
  std::uint64_t epoch = 0;
  Outcome outcome = Outcome::kFinished;
  int exit_code = 0;      // of the launcher
  std::int64_t step = 0;  // of the newest checkpoint
  std::string cause;      // of a failure, in a sentence; else ""
};

/// {"event":"start"}: one `up` or `replay`, and what became of it.
struct RunRecord {
  std::string time;
  std::uint64_t epoch = 0;
  std::int64_t from_step = 0;  // the checkpoint that it went on from; 0: the beginning
  int pid = 0;                 // of the launcher, on `machine`
  std::string machine;
  std::vector<RunRestart> restarts;
  std::optional<RunEnd> end;  // nothing: it is up, or it was killed from outside
};

/// Now, as the history spells it.
std::string UtcTime();

/// Each appends a line and syncs it; `time` is now. Throws Error when it cannot be written.
void RecordStart(const std::filesystem::path& run_folder, const RunRecord& start);
void RecordRestart(const std::filesystem::path& run_folder, const RunRestart& restart);
void RecordEnd(const std::filesystem::path& run_folder, const RunEnd& end);

/// The starts of the run, oldest first; empty when there were none. A line that is not whole (the last, of a machine
/// that died) is skipped. Throws Error when the file is there and cannot be read.
std::vector<RunRecord> ReadHistory(const std::filesystem::path& run_folder);

/// How the last start ended; nothing when the run never started or is up. A start without an end that nobody runs was
/// killed from outside (Outcome::kKilled, no time).
std::optional<RunEnd> LastOutcome(const std::filesystem::path& run_folder);

/// Step of the newest checkpoint that was committed, by its name alone; 0 when there is none.
std::int64_t NewestStep(const std::filesystem::path& run_folder);

}  // namespace sgmd
