// The files of a run that every process knows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sgmd {

/// A process's name in names of files: that of a rank, "generator/1", is generator-1; and back.
std::string FileNameOf(const std::string& process);
std::string ProcessOfFileName(const std::string& name);

/// The files inside a run folder, one place for their names.
struct RunFolder {
  std::filesystem::path root;
  std::filesystem::path Experiment() const { return root / "resolved" / "experiment.toml"; }
  std::filesystem::path Topology() const { return root / "resolved" / "topology.toml"; }
  std::filesystem::path Checkpoints() const { return root / "checkpoints"; }
  std::filesystem::path Keys() const { return root / "keys"; }  // of an encrypted run (common/transport/curve.h)
  std::filesystem::path Logs() const { return root / "logs"; }
  std::filesystem::path LogOf(const std::string& process) const { return Logs() / (FileNameOf(process) + ".log"); }
  std::filesystem::path Groups() const { return root / "groups"; }  // where the ranks of a role's group meet
  std::filesystem::path Events() const { return root / "events"; }
  std::filesystem::path Start() const { return root / "epoch"; }  // a RunStart
  std::filesystem::path History() const {
    return root / "history.jsonl";
  }                                                                   // its starts and ends (launch/run/run_history.h)
  std::filesystem::path Outcome() const { return root / "outcome"; }  // how the last start ended, for further hosts
  std::filesystem::path Rollbacks() const { return root / "rollbacks"; }         // a line each: what made it necessary
  std::filesystem::path Pauses() const { return root / "pauses"; }               // a line each: PausesOf
  std::filesystem::path Pace() const { return root / "pace"; }                   // nodes/fake_score/pace_record.h
  std::filesystem::path PaceToFollow() const { return root / "pace.recorded"; }  // of a replay
  std::filesystem::path Evaluation() const { return root / "evaluation"; }
  std::filesystem::path Teachers() const { return root / "teachers"; }  // how many `scale` said, and the topology then
  std::filesystem::path Traces() const { return root / "trace"; }       // a file of each process (common/trace/trace.h)
  std::filesystem::path Trace() const { return root / "trace.json"; }
  std::filesystem::path Student() const { return root / "student"; }
};

/// One start of a run: what all its processes agree on. Only the launcher of the head writes it.
struct RunStart {
  std::uint64_t epoch = 0;  // counts the starts, from 1; 0: never started. Messages of another epoch are dropped
  std::int64_t step = 0;    // the checkpoint that every process goes on from; 0: the beginning
  std::int64_t until = 0;   // of a replay, where its record ends: it stops there as a drained run; 0: at the last step
};

/// <run>/epoch: "<epoch> <step> <until>". Zeros when there is no such file. Throws Error when it holds something else.
RunStart ReadRunStart(const RunFolder& folder);
/// The number of the next start. When the file cannot be read, it warns and takes the seconds since 1970: above every
/// count, so that no message of an old start is taken for one of the new.
std::uint64_t NextEpoch(const RunFolder& folder);
void WriteRunStart(const RunFolder& folder, const RunStart& start);

/// The lines of `rollbacks`, oldest first; empty when the run never went back.
std::vector<std::string> RollbacksOf(const RunFolder& folder);

/// Steps before which all earlier ones were done, because the run was drained there: with max_staleness above 0 they
/// decide which student a step was rolled out with, so a replay keeps to them. Empty when there are none; throws Error
/// when the file holds something else.
std::vector<std::int64_t> PausesOf(const RunFolder& folder);
void WritePauses(const RunFolder& folder, const std::vector<std::int64_t>& steps);

}  // namespace sgmd
