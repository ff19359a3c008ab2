#include "common/config/run_folder.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {

RunStart ReadRunStart(const RunFolder& folder) {
  RunStart start;
  if (!std::filesystem::exists(folder.Start())) return start;
  std::istringstream text(ReadFile(folder.Start()));
  if (!(text >> start.epoch) || start.epoch == 0) {
    throw Error("this file does not hold the number of a start of the run", folder.Start().string(),
                "end the run if it is up, then remove the file: the next `up` writes it");
  }
  text >> start.step >> start.until;  // earlier versions wrote less
  return start;
}

std::uint64_t NextEpoch(const RunFolder& folder) {
  try {
    return ReadRunStart(folder).epoch + 1;
  } catch (const Error& error) {
    const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
    const auto epoch = std::chrono::duration_cast<std::chrono::seconds>(since_1970).count();
    LogWarning(folder.Start().string(), " cannot be read (", error.message(), "); this start is number ", epoch,
               ", which is the time, so that it is above every other");
    return static_cast<std::uint64_t>(epoch);
  }
}

void WriteRunStart(const RunFolder& folder, const RunStart& start) {
  if (failpoint::Fails("epoch.write")) ThrowErrno("cannot write", folder.Start().string());
  WriteFileAtomically(folder.Start(), StrCat(start.epoch, " ", start.step, " ", start.until, "\n"));
}

std::vector<std::string> RollbacksOf(const RunFolder& folder) {
  std::vector<std::string> lines;
  std::ifstream file(folder.Rollbacks());
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<std::int64_t> PausesOf(const RunFolder& folder) {
  std::vector<std::int64_t> steps;
  std::ifstream file(folder.Pauses());
  for (std::int64_t step = 0; file >> step;) steps.push_back(step);
  if (file.is_open() && !file.eof()) throw Error("a line is not a step", folder.Pauses().string());
  return steps;
}

void WritePauses(const RunFolder& folder, const std::vector<std::int64_t>& steps) {
  std::string text;
  for (const std::int64_t step : steps) text += StrCat(step, "\n");
  WriteFileAtomically(folder.Pauses(), text);
}

std::string FileNameOf(const std::string& process) {
  std::string name = process;
  std::ranges::replace(name, '/', '-');
  return name;
}

std::string ProcessOfFileName(const std::string& name) {
  const std::size_t dash = name.rfind('-');
  if (dash == name.npos) return name;
  std::string rank = name;
  rank[dash] = '/';
  return ParseNodeName(rank) ? rank : name;  // dashes are also in the names of hosts
}

}  // namespace sgmd
