#include "common/config/run_folder.h"

#include <gtest/gtest.h>

#include <ctime>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

TEST(RunStart, IsReadAsItWasWritten) {
  TempFolder folder;
  const RunFolder run{folder.path()};
  EXPECT_EQ(NextEpoch(run), 1U);
  WriteRunStart(run, {7, 40});
  const RunStart read = ReadRunStart(run);
  EXPECT_EQ(read.epoch, 7U);
  EXPECT_EQ(read.step, 40);
  EXPECT_EQ(NextEpoch(run), 8U);
}

TEST(RunStart, OfEarlierVersionsIsRead) {
  TempFolder folder;
  const RunFolder run{folder.path()};
  WriteFileAtomically(run.Start(), "7\n");
  EXPECT_EQ(ReadRunStart(run).epoch, 7U);
  EXPECT_EQ(ReadRunStart(run).step, 0);
}

TEST(RunStart, WithoutANumberIsAnErrorAndTheNextEpochIsAboveEveryCount) {
  TempFolder folder;
  const RunFolder run{folder.path()};
  for (const char* text : {"", "x", "0 3"}) {
    WriteFileAtomically(run.Start(), text);
    EXPECT_THROW(ReadRunStart(run), Error);
    const std::uint64_t epoch = NextEpoch(run);
    EXPECT_GE(epoch, static_cast<std::uint64_t>(std::time(nullptr)) - 60);
    WriteRunStart(run, {epoch, 0});
    EXPECT_EQ(NextEpoch(run), epoch + 1);
  }
  std::filesystem::remove(run.Start());
  std::filesystem::create_directory(run.Start());
  EXPECT_GT(NextEpoch(run), 1'700'000'000U) << "it cannot be read at all";
}

}  // namespace
}  // namespace sgmd
