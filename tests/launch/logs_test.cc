// Reading logs backwards, merged, and as they grow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/logs/backward_reader.h"
#include "launch/logs/log_follower.h"
#include "launch/logs/log_query.h"
#include "launch/run/log_file.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Line(int second, const std::string& text) {
  char time[40];
  std::snprintf(time, sizeof time, "2026-11-24 21:%02d:%02d.042 ", second / 60, second % 60);
  return time + text + "\n";
}

std::vector<std::string> TextsOf(const std::vector<LogEntry>& entries) {
  std::vector<std::string> texts;
  for (const LogEntry& entry : entries)
    texts.push_back(entry.process + ": " + entry.text.substr(entry.time.empty() ? 0 : 24));
  return texts;
}

class Logs : public testing::Test {
 protected:
  void Append(const std::string& process, const std::string& text) {
    std::ofstream(folder_ / (process + ".log"), std::ios::app) << text;
  }
  LogTail Read(const LogQuery& query = {}) { return NewestEntries(LogsOf(folder_.path(), query), query); }
  TempFolder folder_;
};

TEST_F(Logs, AreMergedByTimeAndALineWithoutOneBelongsToTheLineBefore) {
  Append("broker", Line(1, "b1") + Line(4, "b4"));
  Append("generator", "before any time\n" + Line(2, "g2") + "  of g2\n" + Line(3, "g3"));
  EXPECT_THAT(TextsOf(Read().entries), ElementsAre("generator: before any time", "broker: b1", "generator: g2\n  of g2",
                                                   "generator: g3", "broker: b4"));
}

TEST_F(Logs, CountTakesTheNewestOfAllThatMatch) {
  Append("broker", Line(1, "W b1") + Line(4, "I b4"));
  Append("generator", Line(2, "W g2") + Line(3, "W g3"));
  LogQuery query;
  query.count = 2;
  EXPECT_THAT(TextsOf(Read(query).entries), ElementsAre("generator: W g3", "broker: I b4"));
  query.grep = std::regex(" W ");
  EXPECT_THAT(TextsOf(Read(query).entries), ElementsAre("generator: W g2", "generator: W g3"));
  query.process = "broker";
  EXPECT_THAT(TextsOf(Read(query).entries), ElementsAre("broker: W b1"));
}

TEST_F(Logs, SinceLeavesOutWhatIsOlderAlsoInRotatedFiles) {
  {
    LogFile log(folder_ / "broker.log", {100, 100});
    for (int second = 0; second < 10; ++second) log.Write(Line(second, "line " + std::to_string(second)));
  }
  ASSERT_TRUE(std::filesystem::exists(folder_ / "broker.log.3"));
  EXPECT_EQ(Read().entries.size(), 10U);
  LogQuery query;
  query.since = "2026-11-24 21:00:02.500";
  const std::vector<LogEntry> entries = Read(query).entries;
  ASSERT_EQ(entries.size(), 7U);
  EXPECT_THAT(entries.front().text, HasSubstr("line 3"));
}

// Lines of all lengths, against the text itself: every way that a line can lie across blocks and files.
TEST_F(Logs, BackwardReadingFindsEveryLineOfLongFiles) {
  std::vector<std::string> written;
  for (int i = 0; i < 3000; ++i) {
    written.push_back(
        Line(i % 3600, std::string(static_cast<std::size_t>(i * 7919 % 997) * (i % 100 == 0 ? 200 : 1), 'x')));
  }
  {
    LogFile log(folder_ / "p.log", {4U << 20, 1U << 20});
    for (const std::string& line : written) log.Write(line);
  }
  BackwardReader reader(folder_ / "p.log");
  for (auto line = written.rbegin(); line != written.rend(); ++line) {
    const auto entry = reader.Next();
    ASSERT_TRUE(entry);
    ASSERT_EQ(entry->text + "\n", *line);
  }
  EXPECT_FALSE(reader.Next());
}

TEST_F(Logs, AFollowerGoesOnWhereTheReaderEndedThroughARotation) {
  Append("broker", Line(1, "b1") + "2026-11-24 21:00:02.042 b");
  LogFollower follower(folder_.path(), {}, Read().ends);
  EXPECT_TRUE(follower.Poll().empty());
  Append("broker", "2\n" + Line(3, "b3"));
  std::filesystem::rename(folder_ / "broker.log", folder_ / "broker.log.1");
  Append("broker", Line(5, "b5"));
  Append("teacher.0", Line(4, "t4"));
  EXPECT_THAT(TextsOf(follower.Poll()), ElementsAre("broker: b2", "broker: b3", "teacher.0: t4", "broker: b5"));
  Append("broker", "of b5\n");
  const auto rest = follower.Poll();
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest[0].time, "2026-11-24 21:00:05.042");
}

TEST_F(Logs, ANameWithoutALogIsAnErrorThatNamesTheNearest) {
  Append("generator", "");
  LogQuery query;
  query.process = "generater";
  EXPECT_THAT(ErrorOf([&] { Read(query); }), HasSubstr("did you mean \"generator\"?"));
}

TEST(SinceTime, TakesDurationsAndPointsInTime) {
  std::tm noon{};
  noon.tm_year = 126, noon.tm_mon = 10, noon.tm_mday = 24, noon.tm_hour = 12, noon.tm_sec = 5, noon.tm_isdst = -1;
  const std::time_t now = std::mktime(&noon);
  EXPECT_EQ(SinceTime("10m", now), "2026-11-24 11:50:05.000");
  EXPECT_EQ(SinceTime("3d", now), "2026-11-21 12:00:05.000");
  EXPECT_EQ(SinceTime("09:30", now), "2026-11-24 09:30:00.000");
  EXPECT_EQ(SinceTime("2026-11-01", now), "2026-11-01 00:00:00.000");
  EXPECT_EQ(SinceTime("2026-11-01T07:08:09", now), "2026-11-01 07:08:09.000");
  EXPECT_THAT(ErrorOf([&] { SinceTime("yesterday", now); }), HasSubstr("\"yesterday\" is no time"));
}

}  // namespace
}  // namespace sgmd
