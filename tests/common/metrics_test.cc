#include <gtest/gtest.h>

#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "common/metrics/crc32c.h"
#include "common/metrics/event_writer.h"
#include "common/metrics/progress.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

// The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
TEST(Crc32c, OfTheCheckStringIsTheCheckValue) { EXPECT_EQ(Crc32c("123456789"), 0xe3069283U); }

std::string OnlyFile(const TempFolder& folder) {
  return ReadFile(std::filesystem::directory_iterator(folder.path())->path());
}

TEST(EventWriter, WritesRecordsWhoseChecksumsHold) {
  TempFolder folder;
  {
    EventWriter writer(folder.path());
    writer.Scalar("generator_loss", 7, 0.5);
  }
  const std::string bytes = OnlyFile(folder);
  std::vector<std::string> events;
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint64_t length = 0;
    std::uint32_t crc = 0;
    std::memcpy(&length, bytes.data() + at, 8);
    std::memcpy(&crc, bytes.data() + at + 8, 4);
    EXPECT_EQ(crc, MaskedCrc32c(bytes.substr(at, 8)));
    events.push_back(bytes.substr(at + 12, length));
    std::memcpy(&crc, bytes.data() + at + 12 + length, 4);
    EXPECT_EQ(crc, MaskedCrc32c(events.back()));
    at += 16 + length;
  }
  ASSERT_EQ(events.size(), 2U);
  EXPECT_NE(events[0].find("brain.Event:2"), std::string::npos);
  // step (field 2) = 7; summary (5) { value (1) { tag (1), simple_value (2) = 0.5F } }
  const std::string tail =
      std::string("\x10\x07\x2a\x17\x0a\x15\x0a\x0egenerator_loss\x15", 23) + std::string("\0\0\0\x3f", 4);
  EXPECT_EQ(events[1].substr(9), tail);
}

TEST(EventWriter, NeverThrowsWhereItsFolderIsAFileAndWritesWhenItIsAFolder) {
  TempFolder folder;
  WriteFileAtomically(folder / "events", "in the way");
  EventWriter writer(folder / "events", std::chrono::milliseconds(0));
  writer.Scalar("generator_loss", 1, 0.5);
  std::filesystem::remove(folder / "events");
  writer.Scalar("generator_loss", 2, 0.25);
  const std::string bytes = ReadFile(std::filesystem::directory_iterator(folder / "events")->path());
  EXPECT_NE(bytes.find("generator_loss"), std::string::npos);
}

TEST(EventWriter, DropsUntilItIsTimeToTryAgain) {
  TempFolder folder;
  WriteFileAtomically(folder / "events", "in the way");
  EventWriter writer(folder / "events", std::chrono::hours(1));
  std::filesystem::remove(folder / "events");
  writer.Scalar("generator_loss", 1, 0.5);
  EXPECT_FALSE(std::filesystem::exists(folder / "events"));
}

// No file may grow beyond a few bytes, as on a full disk.
TEST(EventWriter, OutlivesAFullDiskAndBeginsANewFileAfterwards) {
  TempFolder folder;
  EventWriter writer(folder.path(), std::chrono::milliseconds(0));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit full{60, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  for (int step = 0; step < 5; ++step) writer.Scalar("generator_loss", step, 0.5);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  writer.Scalar("after_it", 9, 0.5);
  int whole = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    whole += ReadFile(entry.path()).find("after_it") != std::string::npos ? 1 : 0;
  EXPECT_EQ(whole, 1);
}

// 64 of 256 videos took a minute before the first count came: three more minutes, and not none or hours.
TEST(Pace, CountsFromTheFirstCountOn) {
  const Pace::Clock::time_point start{};
  Pace pace;
  EXPECT_EQ(pace.Left(256), "-");
  pace.Mark(64, start);
  EXPECT_FALSE(pace.SecondsEach());
  EXPECT_EQ(pace.Left(256), "-");
  pace.Mark(128, start + std::chrono::seconds(60));
  EXPECT_EQ(*pace.SecondsEach(), 60.0 / 64);
  EXPECT_EQ(pace.Left(256), "2m 00s");
  pace.Mark(100, start + std::chrono::seconds(90));
  EXPECT_FALSE(pace.SecondsEach()) << "a run that went back to a checkpoint begins anew";
}

TEST(FitLine, LeavesOutTheBarThenCuts) {
  EXPECT_EQ(FitLine("[##..] ", "step 2/4  ETA 8s", 0), "[##..] step 2/4  ETA 8s");
  EXPECT_EQ(FitLine("[##..] ", "step 2/4  ETA 8s", 24), "[##..] step 2/4  ETA 8s");
  EXPECT_EQ(FitLine("[##..] ", "step 2/4  ETA 8s", 23), "step 2/4  ETA 8s");
  EXPECT_EQ(FitLine("[##..] ", "step 2/4  ETA 8s", 9), "step 2/4");
}

TEST(FormatDuration, ReadsLikeAClock) {
  EXPECT_EQ(FormatDuration(0.84), "0.8s");
  EXPECT_EQ(FormatDuration(59.4), "59s");
  EXPECT_EQ(FormatDuration(65), "1m 05s");
  EXPECT_EQ(FormatDuration(7380), "2h 03m");
}

}  // namespace
}  // namespace sgmd
