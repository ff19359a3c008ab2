#include "launch/run/log_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

// Writes beyond `bytes` of a file fail while it lives, as on a full disk (EFBIG in place of ENOSPC).
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(LogFile, AppendsToWhatIsThere) {
  TempFolder folder;
  WriteFileAtomically(folder / "p.log", "before\n");
  LogFile log(folder / "p.log");
  log.Write("after\n");
  EXPECT_EQ(ReadFile(folder / "p.log"), "before\nafter\n");
}

TEST(LogFile, RotatesBetweenLinesAndKeepsThreeOlder) {
  TempFolder folder;
  const auto path = folder / "p.log";
  {
    LogFile log(path, {10, 1000});
    log.Write("1 half of ");
    log.Write("a line\n");
    for (const char* line : {"22222222\n", "33333333\n", "44444444\n", "55555555\n"}) log.Write(line);
  }
  EXPECT_EQ(ReadFile(path), "55555555\n");
  EXPECT_EQ(ReadFile(LogFile::Rotated(path, 1)), "44444444\n");
  EXPECT_EQ(ReadFile(LogFile::Rotated(path, 3)), "22222222\n") << "the first line was the oldest of five";
  EXPECT_FALSE(std::filesystem::exists(LogFile::Rotated(path, 4)));
}

TEST(LogFile, KeepsWhatAFullDiskRefusesAndWritesItWithTheNextLine) {
  TempFolder folder;
  LogFile log(folder / "p.log");
  {
    const FullDisk full(8);
    log.Write("line 1\n");
    log.Write("line 2\n");
    log.Write("line 3\n");
  }
  EXPECT_EQ(ReadFile(folder / "p.log").size(), 8U);
  log.Write("line 4\n");
  EXPECT_EQ(ReadFile(folder / "p.log"), "line 1\nline 2\nline 3\nline 4\n");
}

TEST(LogFile, CountsTheLinesThatItCouldNotKeep) {
  TempFolder folder;
  LogFile log(folder / "p.log", {1000, 12});
  {
    const FullDisk full(0);
    for (const char* line : {"kept 1\n", "lost 2\nlost 3\n", "lost 4\n"}) log.Write(line);
  }
  log.Write("line 5\n");
  EXPECT_EQ(ReadFile(folder / "p.log"), "kept 1\n3 lines were lost\nline 5\n");
}

TEST(LogFile, WaitsForAFolderThatIsNotThereYet) {
  TempFolder folder;
  LogFile log(folder / "logs" / "p.log");
  log.Write("line 1\n");
  std::filesystem::create_directories(folder / "logs");
  log.Write("line 2\n");
  EXPECT_EQ(ReadFile(folder / "logs" / "p.log"), "line 1\nline 2\n");
}

}  // namespace
}  // namespace sgmd
