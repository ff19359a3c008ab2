#include "common/config/run_folder.h"

#include <fstream>
#include <sstream>

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
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
  text >> start.step;  // an earlier version wrote the epoch alone
  return start;
}

void WriteRunStart(const RunFolder& folder, const RunStart& start) {
  if (failpoint::Fails("epoch.write")) ThrowErrno("cannot write", folder.Start().string());
  WriteFileAtomically(folder.Start(), StrCat(start.epoch, " ", start.step, "\n"));
}

std::vector<std::string> RollbacksOf(const RunFolder& folder) {
  std::vector<std::string> lines;
  std::ifstream file(folder.Rollbacks());
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

}  // namespace sgmd
