#include "launch/run/run_history.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/config/run_folder.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_layout.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_control.h"

namespace sgmd {
namespace {

using nlohmann::json;

constexpr const char* kOutcomes[] = {"finished", "drained", "failed", "killed"};

// Whether what a machine that died wrote last has no end.
bool EndsInMidLine(int fd) {
  const off_t size = ::lseek(fd, 0, SEEK_END);
  char last = '\n';
  return size > 0 && ::pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

void Append(const std::filesystem::path& run_folder, const json& object) {
  const std::string path = RunFolder{run_folder}.History().string();
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) ThrowErrno("cannot open", path);
  const std::string line =
      (EndsInMidLine(fd) ? "\n" : "") + object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  const bool written = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(fd) == 0;
  const int problem = errno;
  ::close(fd);
  errno = problem;
  if (!written) ThrowErrno("cannot write", path);
}

Outcome ParseOutcome(const std::string& text) {
  const auto* const at = std::ranges::find(kOutcomes, text);
  return at == std::end(kOutcomes) ? Outcome::kFailed : static_cast<Outcome>(at - kOutcomes);
}

void Add(const json& line, std::vector<RunRecord>& records) {
  const std::string event = line.value("event", ""), time = line.value("time", "");
  const std::uint64_t epoch = line.value("epoch", std::uint64_t{0});
  if (event == "start") {
    records.push_back({time,
                       epoch,
                       line.value("from_step", std::int64_t{0}),
                       line.value("pid", 0),
                       line.value("machine", ""),
                       {},
                       {}});
  } else if (event == "restart" && !records.empty()) {
    RunRestart restart{time, epoch, line.value("process", ""), line.value("cause", ""), {}};
    if (line.contains("from_step")) restart.from_step = line["from_step"].get<std::int64_t>();
    records.back().restarts.push_back(std::move(restart));
  } else if (event == "end" && !records.empty()) {
    records.back().end = RunEnd{time,
                                epoch,
                                ParseOutcome(line.value("outcome", "")),
                                line.value("exit_code", 1),
                                line.value("step", std::int64_t{0}),
                                line.value("cause", "")};
  }
}

}  // namespace

std::string Spell(Outcome outcome) { return kOutcomes[static_cast<int>(outcome)]; }

Outcome OutcomeOf(int exit_code) {
  switch (exit_code) {
    case kExitFinished:
      return Outcome::kFinished;
    case kExitDrained:
      return Outcome::kDrained;
    case kExitKilled:
      return Outcome::kKilled;
    default:
      return Outcome::kFailed;
  }
}

std::string UtcTime() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%FT%TZ", &utc);
  return text;
}

void RecordStart(const std::filesystem::path& run_folder, const RunRecord& start) {
  Append(run_folder, {{"event", "start"},
                      {"epoch", start.epoch},
                      {"time", UtcTime()},
                      {"from_step", start.from_step},
                      {"pid", start.pid},
                      {"machine", start.machine}});
}

void RecordRestart(const std::filesystem::path& run_folder, const RunRestart& restart) {
  json line{{"event", "restart"},
            {"time", UtcTime()},
            {"epoch", restart.epoch},
            {"process", restart.process},
            {"cause", restart.cause}};
  if (restart.from_step) line["from_step"] = *restart.from_step;
  Append(run_folder, line);
}

void RecordEnd(const std::filesystem::path& run_folder, const RunEnd& end) {
  Append(run_folder, {{"event", "end"},
                      {"epoch", end.epoch},
                      {"time", UtcTime()},
                      {"outcome", Spell(end.outcome)},
                      {"exit_code", end.exit_code},
                      {"step", end.step},
                      {"cause", end.cause}});
}

std::vector<RunRecord> ReadHistory(const std::filesystem::path& run_folder) {
  const std::filesystem::path path = RunFolder{run_folder}.History();
  std::vector<RunRecord> records;
  if (!std::filesystem::exists(path)) return records;
  std::istringstream text(ReadFile(path));
  for (std::string line; std::getline(text, line);) {
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) continue;
    try {
      Add(object, records);
    } catch (const json::exception&) {  // a value of another type: not a line of ours
    }
  }
  return records;
}

std::optional<RunEnd> LastOutcome(const std::filesystem::path& run_folder) {
  const std::vector<RunRecord> records = ReadHistory(run_folder);
  if (records.empty() || RunLock::HolderOf(run_folder)) return {};
  const RunRecord& last = records.back();
  if (last.end) return last.end;
  const std::uint64_t epoch = last.restarts.empty() ? last.epoch : last.restarts.back().epoch;
  return RunEnd{"",
                epoch,
                Outcome::kKilled,
                kExitKilled,
                NewestStep(run_folder),
                StrCat("the launcher, process ", last.pid, " on ", last.machine, ", was killed from outside")};
}

std::int64_t NewestStep(const std::filesystem::path& run_folder) {
  std::int64_t newest = 0;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(RunFolder{run_folder}.Checkpoints(), none)) {
    if (const auto step = StepOfFolderName(entry.path().filename().string())) newest = std::max(newest, *step);
  }
  return newest;
}

}  // namespace sgmd
