#include "nodes/encoder/picture_list.h"

#include <map>
#include <sstream>

#include "common/digest/digest.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {

BankPicture BankPicture::Of(const std::filesystem::path& file) { return {file, DigestFile(file).Hex()}; }

std::vector<BankPicture> ReadPictureList(const std::filesystem::path& list, std::size_t count) {
  std::istringstream lines(ReadFile(list));
  std::vector<BankPicture> pictures;
  std::map<std::string, BankPicture> read;  // by line: many prompts may have one picture
  std::int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const std::filesystem::path file = std::filesystem::absolute(list).parent_path() / line;
    if (!std::filesystem::is_regular_file(file))
      throw Error("no such picture: " + line, StrCat(list.string(), ":", number), "paths are relative to the list");
    const auto [it, fresh] = read.try_emplace(line);
    if (fresh) it->second = BankPicture::Of(file);
    pictures.push_back(it->second);
  }
  if (pictures.size() == count) return pictures;
  throw Error(StrCat(pictures.size(), " pictures for ", count, " prompts"), list.string(),
              "the list has a line for each prompt, in their order");
}

}  // namespace sgmd
