#include "nodes/fake_score/pace_record.h"

#include <fstream>
#include <sstream>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

[[noreturn]] void FailLine(const std::filesystem::path& file, const std::string& line) {
  throw Error("this is not an order of updates and gradients: \"" + line + "\"", file.string());
}

PaceEvent ParseEvent(const std::filesystem::path& file, const std::string& word, const std::string& line) {
  std::size_t used = 0;
  const bool update = word.front() == 'u';
  if (!update && word.front() != 'g') FailLine(file, line);
  PaceEvent event{update ? PaceEvent::Kind::kUpdate : PaceEvent::Kind::kGradient, 0};
  try {
    event.number = std::stoll(word.substr(1), &used);
  } catch (const std::exception&) {
    FailLine(file, line);
  }
  if (used + 1 != word.size() || event.number < 0) FailLine(file, line);
  return event;
}

// A last line that has no end is of a step that was not over.
std::map<std::int64_t, PaceRecord::Events> Read(const std::filesystem::path& path) {
  std::map<std::int64_t, PaceRecord::Events> steps;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line) && !file.eof();) {
    std::istringstream words(line);
    std::int64_t step = 0;
    char colon = 0;
    if (!(words >> step >> colon) || colon != ':' || step < 0) FailLine(path, line);
    PaceRecord::Events events;
    for (std::string word; words >> word;) events.push_back(ParseEvent(path, word, line));
    steps[step] = std::move(events);
  }
  return steps;
}

std::string LineOf(std::int64_t step, const PaceRecord::Events& events) {
  return StrCat(step, ": ", Spell(events), "\n");
}

}  // namespace

std::string Spell(const PaceRecord::Events& events) {
  std::string text;
  for (const PaceEvent& event : events)
    text += StrCat(text.empty() ? "" : " ", event.kind == PaceEvent::Kind::kUpdate ? "u" : "g", event.number);
  return text;
}

PaceRecord::PaceRecord(std::filesystem::path file, const std::filesystem::path& to_follow, std::int64_t step)
    : file_(std::move(file)),
      follows_(std::filesystem::exists(to_follow)),
      to_follow_(follows_ ? Read(to_follow) : std::map<std::int64_t, Events>()),
      step_(step) {
  std::string kept;
  std::int64_t dropped = 0;
  for (const auto& [done, events] : Read(file_)) {
    if (done < step) kept += LineOf(done, events);
    dropped += done < step ? 0 : 1;
  }
  WriteFileAtomically(file_, kept);
  if (dropped > 0)
    LogInfo("the order of updates and gradients is new from step ", step, " on: ", dropped, " steps are done again");
}

std::optional<PaceEvent> PaceRecord::Next() const {
  const auto events = to_follow_.find(step_);
  if (events == to_follow_.end() || done_.size() >= events->second.size()) return {};
  return events->second[done_.size()];
}

bool PaceRecord::Over() const {
  const auto events = to_follow_.find(step_);
  return events != to_follow_.end() && done_.size() >= events->second.size();
}

void PaceRecord::FinishStep() {
  std::ofstream file(file_, std::ios::app);
  file << LineOf(step_++, done_);
  file.close();
  if (!file) ThrowErrno("cannot write the order of updates and gradients", file_.string());
  done_.clear();
}

void PaceRecord::Sync() const { SyncPath(file_); }

}  // namespace sgmd
