#include "common/storage/atomic_folder.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <vector>

#include "common/error/error.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

TEST(WriteFileAtomically, ReplacesTheWholeFile) {
  TempFolder folder;
  WriteFileAtomically(folder / "f", "a longer first version");
  WriteFileAtomically(folder / "f", "second");
  EXPECT_EQ(ReadFile(folder / "f"), "second");
  EXPECT_FALSE(std::filesystem::exists(folder / ".tmp-f"));
}

TEST(WriteFileAtomically, KeepsTheOldFileWhenTheDiskIsFull) {
  TempFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "mounting needs root";
  WriteFileAtomically(folder / "f", "old");
  EXPECT_THROW(WriteFileAtomically(folder / "f", std::string(1 << 20, 'x')), Error);
  EXPECT_EQ(ReadFile(folder / "f"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / ".tmp-f"));
  ::umount(folder.path().c_str());
}

TEST(CommitFolder, ReplacesAnEarlierOneAndLeavesNoStaging) {
  TempFolder folder;
  for (const char* version : {"1", "2"}) {
    std::filesystem::create_directories(StagingFolder(folder / "c"));
    WriteFileAtomically(StagingFolder(folder / "c") / version, version);
    CommitFolder(folder / "c");
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "c" / "1"));
  EXPECT_EQ(ReadFile(folder.path() / "c" / "2"), "2");
  EXPECT_FALSE(std::filesystem::exists(StagingFolder(folder / "c")));
}

}  // namespace
}  // namespace sgmd
