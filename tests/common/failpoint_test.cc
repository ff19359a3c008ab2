#include "common/failpoint/failpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "common/failpoint/rules.h"
#include "common/log/log.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd::failpoint {
namespace {

using testing::HasSubstr;

// Sets what SGMD_FAILPOINTS says, for the process `name`.
void Set(const std::string& rules, const char* name = "generator") {
  ::setenv("SGMD_FAILPOINTS", rules.c_str(), 1);
  SetProcess(name);
}

// The hits, from 1 to `count`, at which something happens at data.send.
std::vector<int> HitsOf(const std::string& rules, int count, const char* name = "generator") {
  Set(rules, name);
  std::vector<int> hits;
  for (int i = 1; i <= count; ++i) {
    if (Hit("data.send", "Gradient")) hits.push_back(i);
  }
  return hits;
}

class Failpoint : public testing::Test {
 protected:
  ~Failpoint() override {
    for (const char* name : {"SGMD_FAILPOINTS", "SGMD_FAILPOINTS_SEED", "SGMD_FAILPOINTS_MARKS"}) ::unsetenv(name);
    SetProcess("generator");
  }
};

TEST_F(Failpoint, NothingHappensWithoutRules) {
  Set("");
  EXPECT_FALSE(Any());
  EXPECT_FALSE(Hit("data.send", "Gradient"));
  EXPECT_FALSE(Fails("cache.put"));
}

TEST_F(Failpoint, ReadsWhatARuleSays) {
  const auto rules = ParseRules("data.send.Gradient[teacher.0]=delay(200ms):5%@3+!;cache.put=enospc;");
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(kPlaces[rules[0].place].name, "data.send");
  EXPECT_EQ(rules[0].kind, "Gradient");
  EXPECT_EQ(rules[0].process, "teacher.0");
  EXPECT_EQ(rules[0].effect.action, Action::kDelay);
  EXPECT_EQ(rules[0].effect.amount, 200);
  EXPECT_DOUBLE_EQ(rules[0].probability, 0.05);
  EXPECT_EQ(rules[0].first, 3U);
  EXPECT_GT(rules[0].last, 1'000'000U);
  EXPECT_TRUE(rules[0].once);
  EXPECT_EQ(rules[1].effect.action, Action::kNoSpace);
  EXPECT_FALSE(rules[1].once);
}

TEST_F(Failpoint, RefusesWhatItDoesNotKnowAndNamesTheNearest) {
  const auto error = [](const char* rules) { return ErrorOf([&] { ParseRules(rules); }); };
  EXPECT_THAT(error("data.sent=drop"), HasSubstr("did you mean \"data.send\"?"));
  EXPECT_THAT(error("data.send=dorp"), HasSubstr("did you mean \"drop\"?"));
  EXPECT_THAT(error("data.send.Gradeint=drop"), HasSubstr("did you mean \"Gradient\"?"));
  EXPECT_THAT(error("cache.put=drop"), HasSubstr("\"drop\" is nothing that can happen at cache.put"));
  EXPECT_THAT(error("cache.put.Score=eio"), HasSubstr("no messages pass at cache.put"));
  EXPECT_THAT(error("data.send"), HasSubstr("a rule is place=action"));
  EXPECT_THAT(error("data.send=delay"), HasSubstr("delay needs a number in brackets"));
  EXPECT_THAT(error("data.send=drop(3)"), HasSubstr("drop takes no number"));
  EXPECT_THAT(error("data.send=sleep(5"), HasSubstr("a bracket is not closed"));
  EXPECT_THAT(error("data.send=exit(256)"), HasSubstr("over 255"));
  EXPECT_THAT(error("data.send=drop:101%"), HasSubstr("from 0 % to 100 %"));
  EXPECT_THAT(error("data.send=drop:1"), HasSubstr("a probability ends with %"));
  EXPECT_THAT(error("data.send=drop@0"), HasSubstr("counted from 1"));
  EXPECT_THAT(error("data.send[=drop"), HasSubstr("a process stands in [brackets]"));
}

TEST_F(Failpoint, InitLogReadsTheVariable) {
  ::setenv("SGMD_FAILPOINTS", "nonsense=crash", 1);
  EXPECT_THAT(ErrorOf([] { InitLog("test"); }), HasSubstr("no failpoint is called \"nonsense\""));
}

TEST_F(Failpoint, HappensAtTheHitsThatItNames) {
  EXPECT_EQ(HitsOf("data.send=drop@3", 6), std::vector<int>{3});
  EXPECT_EQ(HitsOf("data.send=drop@5+", 6), (std::vector<int>{5, 6}));
  EXPECT_EQ(HitsOf("data.send=drop@2;data.send=double@4", 6), (std::vector<int>{2, 4}));
  EXPECT_EQ(HitsOf("data.send=drop!", 6), std::vector<int>{1});
}

TEST_F(Failpoint, ConcernsOnlyTheNamedKindAndProcess) {
  EXPECT_TRUE(HitsOf("data.send.Sample=drop", 3).empty());
  EXPECT_TRUE(HitsOf("data.send[fake_score]=drop", 3).empty());
  EXPECT_TRUE(HitsOf("data.send[teacher]=drop", 3, "teachers").empty());
  EXPECT_EQ(HitsOf("data.send[teacher]=drop", 3, "teacher.2").size(), 3U);
  EXPECT_EQ(HitsOf("data.send[teacher.2]=drop", 3, "teacher.2").size(), 3U);
  EXPECT_FALSE(Hit("data.receive", "Gradient"));
}

TEST_F(Failpoint, DrawsTheSameAgainForTheSameSeedAndProcess) {
  const std::vector<int> drawn = HitsOf("data.send=drop:10%", 2000);
  EXPECT_GT(drawn.size(), 140U);
  EXPECT_LT(drawn.size(), 260U);
  EXPECT_EQ(HitsOf("data.send=drop:10%", 2000), drawn);
  EXPECT_NE(HitsOf("data.send=drop:10%", 2000, "broker"), drawn);
  ::setenv("SGMD_FAILPOINTS_SEED", "1", 1);
  EXPECT_NE(HitsOf("data.send=drop:10%", 2000), drawn);
}

TEST_F(Failpoint, OnceMeansOnceInAllStartsThatShareTheMarks) {
  const TempFolder marks;
  ::setenv("SGMD_FAILPOINTS_MARKS", marks.path().c_str(), 1);
  EXPECT_EQ(HitsOf("data.send=drop@2+!", 4), std::vector<int>{2});
  EXPECT_TRUE(HitsOf("data.send=drop@2+!", 4).empty());
}

TEST_F(Failpoint, PlacesFailAsTheSystemWould) {
  Set("cache.put=enospc@1;cache.put=eio@2;cache.put=emfile@3");
  for (const int code : {ENOSPC, EIO, EMFILE}) {
    EXPECT_TRUE(Fails("cache.put"));
    EXPECT_EQ(errno, code);
  }
  EXPECT_FALSE(Fails("cache.put"));
}

TEST_F(Failpoint, GivesThePlaceWhatItIsToDo) {
  Set("data.send=delay(70);teacher.score=nan");
  const auto delay = Hit("data.send"), nan = Hit("teacher.score");
  ASSERT_TRUE(delay && nan);
  EXPECT_EQ(delay->action, Action::kDelay);
  EXPECT_EQ(delay->amount, 70);
  EXPECT_EQ(nan->action, Action::kNan);
}

TEST_F(Failpoint, ErrorThrowsAndSleepSleeps) {
  Set("broker.tick=error@1;broker.tick=sleep(60ms)@2");
  EXPECT_THAT(ErrorOf([] { Hit("broker.tick"); }), HasSubstr("failpoint broker.tick"));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(Hit("broker.tick"));
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(60));
}

using FailpointDeathTest = Failpoint;

TEST_F(FailpointDeathTest, CrashKillsAndExitEnds) {
  const auto hit = [](const char* rules) {
    Set(rules);
    Hit("generator.step");
  };
  EXPECT_EXIT(hit("generator.step=crash"), testing::KilledBySignal(SIGKILL),
              "failpoint: generator.step=crash at hit 1");
  EXPECT_EXIT(hit("generator.step=exit(7)"), testing::ExitedWithCode(7), "");
}

// The process that meets `rules`; the caller waits for it.
pid_t Child(const std::string& rules) {
  const pid_t child = ::fork();
  if (child == 0) {
    Set(rules);
    Hit("generator.step");
    ::_exit(3);
  }
  return child;
}

TEST_F(FailpointDeathTest, StopStopsUntilItIsContinued) {
  const pid_t child = Child("generator.step=stop");
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  ::kill(child, SIGCONT);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 3);
}

TEST_F(FailpointDeathTest, HangNeverReturns) {
  const pid_t child = Child("generator.step=hang");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, WNOHANG), 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
}

TEST_F(Failpoint, TheListingNamesEveryPlaceAndItsActions) {
  const std::string listing = Listing();
  for (const Declared& place : kPlaces) EXPECT_THAT(listing, HasSubstr(std::string(place.name)));
  EXPECT_THAT(listing, HasSubstr("crash, exit, hang, stop, sleep, error, drop, double, delay, corrupt, reorder"));
}

}  // namespace
}  // namespace sgmd::failpoint
