#include "common/trace/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error/error.h"
#include "tests/support/temp_folder.h"

namespace sgmd::trace {
namespace {

using nlohmann::json;
using testing::ElementsAre;

class TraceTest : public testing::Test {
 protected:
  ~TraceTest() override { ::unsetenv("SGMD_TRACE"); }
  Recording Record(const char* steps, std::int64_t start = 0, std::int64_t ahead = 0) {
    ::setenv("SGMD_TRACE", steps, 1);
    return {folder_.path(), "generator", start, ahead};
  }
  bool Written() const { return std::filesystem::exists(folder_.path() / "generator.json"); }
  json File() const {
    std::ifstream in(folder_.path() / "generator.json");
    return json::parse(in);
  }
  // The spans that were recorded, as "name step", in the order of their ends.
  std::vector<std::string> Spans() const {
    std::vector<std::string> spans;
    const json file = File();
    for (const json& event : file["traceEvents"]) {
      if (event["ph"] == "X")
        spans.push_back(StrCat(event["name"].get<std::string>(), " ", event["args"].value("step", -1)));
    }
    return spans;
  }

  TempFolder folder_;
};

TEST_F(TraceTest, RecordsTheStepsThatWereAskedForAndNoOthers) {
  const Recording recording = Record("steps=2@5");
  for (std::int64_t step = 3; step < 9; ++step) {
    const Span outer("step", {step});
    const Span inner("work");
    EXPECT_EQ(Written(), step >= 7);
  }
  EXPECT_THAT(Spans(), ElementsAre("work -1", "step 5", "work -1", "step 6"));
  EXPECT_EQ(File()["firstStep"], 5);
  EXPECT_EQ(File()["lastStep"], 6);
}

TEST_F(TraceTest, WithoutAFirstStepTheTwoThatWarmUpAreLeftOut) {
  const Recording recording = Record("steps=1", /*start=*/40);
  for (std::int64_t step = 40; step < 45; ++step) const Span span("step", {step});
  EXPECT_THAT(Spans(), ElementsAre("step 42"));
}

TEST_F(TraceTest, RecordsAsManyStepsAroundAsProcessesMayBeApart) {
  const Recording recording = Record("steps=1@5", /*start=*/0, /*ahead=*/1);
  for (std::int64_t step = 3; step < 9; ++step) const Span span("step", {step});
  EXPECT_THAT(Spans(), ElementsAre("step 4", "step 5", "step 6"));
}

TEST_F(TraceTest, AStragglerOfAnEarlierStepDoesNotStartItAgain) {
  const Recording recording = Record("steps=1@5");
  for (const std::int64_t step : {5, 6, 5}) const Span span("step", {step});
  EXPECT_THAT(Spans(), ElementsAre("step 5"));
}

TEST_F(TraceTest, TheLastStepsOfARunAreWrittenWhenItEnds) {
  {
    const Recording recording = Record("steps=9@1");
    const Span span("step", {1});
  }
  EXPECT_THAT(Spans(), ElementsAre("step 1"));
}

TEST_F(TraceTest, TimesAndThreadsAreThoseOfTheSpans) {
  const auto since_1970 = [] {
    return std::chrono::duration<double, std::micro>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  const double before = since_1970();
  {
    const Recording recording = Record("steps=1@0");
    const Span span("step", {0, 3, "Sample"});
    std::thread([] { const Span other("write"); }).join();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const json events = File()["traceEvents"];
  ASSERT_EQ(events.size(), 3);
  EXPECT_EQ(events[0]["args"]["name"], "generator");
  const json &other = events[1], &own = events[2];
  EXPECT_EQ(own["tid"], own["pid"]);
  EXPECT_NE(other["tid"], own["tid"]);
  EXPECT_GE(own["dur"], 20000.0);
  EXPECT_LT(other["dur"], 20000.0);
  EXPECT_GE(own["ts"], before - 1000);
  EXPECT_LE(own["ts"].get<double>() + own["dur"].get<double>(), since_1970() + 1000);
  EXPECT_EQ(own["args"], json::parse(R"({"step":0,"index":3,"kind":"Sample"})"));
}

TEST_F(TraceTest, NothingIsRecordedUnasked) {
  {
    const Recording recording(folder_.path(), "generator", 0, 0);
    const Span span("step", {2});
  }
  EXPECT_FALSE(Written());
}

TEST_F(TraceTest, WhatDoesNotSayWhichStepsIsRefused) {
  EXPECT_EQ(ParseSteps("steps=3").first, -1);
  EXPECT_EQ(ParseSteps("steps=3@0").first, 0);
  for (const char* text :
       {"", "3", "steps=", "steps=0", "steps=1001", "steps=3@", "steps=3@-1", "steps=3@4x", "steps=x"})
    EXPECT_THROW(ParseSteps(text), Error) << text;
}

}  // namespace
}  // namespace sgmd::trace
