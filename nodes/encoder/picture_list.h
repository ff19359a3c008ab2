// The first frames of prompts: a list of pictures as people have it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sgmd {

/// A picture and the name that it has in a bank.
struct BankPicture {
  std::filesystem::path file;
  std::string name;  // hexadecimal digest of the file's bytes

  /// Throws Error where the file cannot be read.
  static BankPicture Of(const std::filesystem::path& file);
};

/// A text file with the path of a picture a line, relative to the list's folder; empty lines are skipped. Throws Error
/// with file:line on a file that is not there, and unless there are `count` of them.
std::vector<BankPicture> ReadPictureList(const std::filesystem::path& list, std::size_t count);

}  // namespace sgmd
