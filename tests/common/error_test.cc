#include "common/error/error.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "common/error/text.h"

namespace sgmd {
namespace {

TEST(Error, TellsWhatWhereAndWhatToDo) {
  const Error error("out of range", "a.toml:3:1", "allowed: [0, 1]");
  EXPECT_STREQ(error.what(), "a.toml:3:1: out of range\n  hint: allowed: [0, 1]");
}

TEST(RunGuarded, ShowsAFolderThatCannotBeMadeAsAnErrorWithItsReason) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunGuarded("p", []() -> int { return std::filesystem::create_directories("/proc/nowhere"); }), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "p: error: /proc/nowhere: No such file or directory\n");
}

TEST(NearestHint, NamesTheNearestOrAll) {
  EXPECT_EQ(NearestHint("pln", {"plan", "up"}), "did you mean \"plan\"?");
  EXPECT_EQ(NearestHint("foo", {"plan", "up"}), "known here: plan, up");
  EXPECT_EQ(NearestHint("something", {"plan", "up"}), "known here: plan, up");
}

TEST(RunGuarded, TurnsErrorsIntoExitCodes) {
  EXPECT_EQ(RunGuarded("p", [] { return 3; }), 3);
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunGuarded("p", []() -> int { throw Error("bad", "here"); }), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "p: error: here: bad\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunGuarded("p", []() -> int { throw std::logic_error("oops"); }), 70);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "p: internal error: oops\n");
}

}  // namespace
}  // namespace sgmd
