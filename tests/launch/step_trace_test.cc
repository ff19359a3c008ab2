#include "launch/run/step_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Of process 1, in microseconds.
std::string Span(const char* name, double start, double length, int thread = 1, const char* arguments = "{}") {
  return StrCat(R"(,{"ph":"X","pid":1,"name":")", name, R"(","ts":)", start, R"(,"dur":)", length, R"(,"tid":)", thread,
                R"(,"args":)", arguments, "}");
}

class StepTraceTest : public testing::Test {
 protected:
  void Write(const std::string& process, const std::string& spans) {
    std::filesystem::create_directories(Parts());
    WriteFileAtomically(Parts() / (process + ".json"),
                        StrCat(R"({"firstStep":4,"lastStep":5,"traceEvents":[{"ph":"M","name":"process_name","pid":1,)",
                               R"("args":{"name":")", process, R"("}})", spans, "]}"));
  }
  static std::string Steps() {
    return Span("step", 0, 100, 1, R"({"step":3})") + Span("step", 100, 100, 1, R"({"step":4})") +
           Span("step", 200, 100, 1, R"({"step":5})") + Span("step", 300, 900, 1, R"({"step":6})");
  }
  std::filesystem::path Parts() const { return folder_.path() / "trace"; }
  std::filesystem::path Merged() const { return folder_.path() / "trace.json"; }
  StepTraceCollector Collector(const std::vector<std::string>& processes) { return {Parts(), Merged(), processes}; }

  TempFolder folder_;
};

TEST_F(StepTraceTest, SharesAreOfTheGeneratorsStepsAndOfTheMainThread) {
  Write("generator", Steps() + Span("roll out", 50, 100) + Span("wait", 160, 120));
  Write("teacher.0", Span("wait", 0, 140) + Span("score", 140, 1000) + Span("write", 100, 200, /*thread=*/2));
  const StepTrace trace = *ReadStepTrace(Parts());
  EXPECT_EQ(trace.first, 4);
  EXPECT_EQ(trace.last, 5);
  EXPECT_DOUBLE_EQ(trace.seconds, 200e-6);
  EXPECT_THAT(StepTraceLines(trace), ElementsAre("  generator   85.0 % named: wait 60.0 %, roll out 25.0 %",
                                                 "  teacher.0   100.0 % named: score 80.0 %, wait 20.0 %"));
}

TEST_F(StepTraceTest, WhatIsNestedCountsOnceAndForTheInnerOne) {
  Write("generator", Steps() + Span("roll out", 100, 100) + Span("send", 120, 20, 1, R"({"kind":"Sample"})") +
                         Span("roll out", 200, 50) + Span("send", 210, 20, 1, R"({"kind":"Sample"})"));
  EXPECT_THAT(StepTraceLines(*ReadStepTrace(Parts())),
              ElementsAre("  generator   75.0 % named: roll out 55.0 %, send Sample 20.0 %"));
}

TEST_F(StepTraceTest, IsPutTogetherOnceAllHaveWrittenAndOnlyOnce) {
  StepTraceCollector collector = Collector({"generator", "broker"});
  Write("generator", Steps());
  EXPECT_THAT(collector.Poll(), IsEmpty());
  Write("broker", Span("wait", 100, 200));
  EXPECT_THAT(collector.Poll(), ElementsAre(HasSubstr("steps 4 to 5"), HasSubstr("broker"), HasSubstr("generator")));
  EXPECT_THAT(collector.Poll(/*at_end=*/true), IsEmpty());
  const auto merged = nlohmann::json::parse(ReadFile(Merged()));
  EXPECT_EQ(merged["traceEvents"].size(), 2 + 4 + 1);
}

TEST_F(StepTraceTest, AtTheEndOfTheRunItIsPutTogetherFromWhatIsThere) {
  StepTraceCollector collector = Collector({"generator", "broker"});
  Write("generator", Steps());
  EXPECT_THAT(collector.Poll(/*at_end=*/true), ElementsAre(HasSubstr("steps 4 to 5"), HasSubstr("generator")));
}

TEST_F(StepTraceTest, SaysThatThereIsNone) {
  EXPECT_THAT(Collector({"generator"}).Poll(/*at_end=*/true), ElementsAre(HasSubstr("there is no trace")));
}

TEST_F(StepTraceTest, FilesOfAnEarlierStartAreNotTakenForTheseOfThis) {
  Write("generator", Steps());
  EXPECT_THAT(Collector({"generator"}).Poll(), IsEmpty());
}

TEST_F(StepTraceTest, NamesTheFileThatIsNoTrace) {
  Write("generator", "");
  WriteFileAtomically(Parts() / "broker.json", "{");
  EXPECT_THROW(ReadStepTrace(Parts()), Error);
}

}  // namespace
}  // namespace sgmd
