#include "nodes/pretrainer/finished.h"

#include "common/error/error.h"
#include "common/storage/safetensors.h"

namespace sgmd {

bool TrainedAlready(const std::filesystem::path& file, const std::string& key, const std::string& settings,
                    bool force) {
  if (!std::filesystem::exists(file)) return false;
  const SafetensorsFile there = SafetensorsFile::Open(file);
  const auto found = there.metadata().find(key);
  const std::string before = found == there.metadata().end() ? "settings that it does not tell" : found->second;
  if (before == settings) return true;
  if (force) return false;
  throw Error(StrCat("this was trained with ", before, ", not with ", settings), file.string(),
              "write to another --out, or replace it with --force");
}

}  // namespace sgmd
