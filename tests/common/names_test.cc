// Names of processes and of devices: each has one spelling.
#include <gtest/gtest.h>

#include "common/config/device.h"
#include "common/config/role.h"

namespace sgmd {
namespace {

TEST(NodeName, ReadsWhatItSpells) {
  const std::pair<NodeName, const char*> names[] = {{{Role::kBroker}, "broker"},
                                                    {{Role::kGenerator}, "generator"},
                                                    {{Role::kFakeScore, 0, 7}, "fake_score/7"},
                                                    {{Role::kTeacher}, "teacher.0"},
                                                    {{Role::kTeacher, 13}, "teacher.13"},
                                                    {{Role::kTeacher, 13, 2}, "teacher.13/2"},
                                                    {{Role::kEvaluator}, "evaluator"},
                                                    {{Role::kLauncher}, "launcher"}};
  for (const auto& [name, text] : names) {
    EXPECT_EQ(Spell(name), text);
    EXPECT_EQ(ParseNodeName(text), name) << text;
  }
}

TEST(NodeName, OtherTextsNameNothing) {
  for (const char* text :
       {"", "teacher", "teacher.", "teacher.x", "teacher.-1", "teacher.01", "teacher.1/0", "Teacher.1", "teacher.1 ",
        "generator.0", "generator/", "generator/x", "launcher.b", "client.host.12", "teacher.99999999999999"}) {
    EXPECT_FALSE(ParseNodeName(text)) << text;
    EXPECT_FALSE(IsTeacher(text)) << text;
  }
  EXPECT_TRUE(IsTeacher("teacher.3"));
  EXPECT_FALSE(IsTeacher("generator"));
}

TEST(NodeName, RankZeroSpeaksForAGroup) {
  EXPECT_EQ(SpeakerOf("teacher.13/2"), "teacher.13");
  EXPECT_EQ(SpeakerOf("generator"), "generator");
  EXPECT_EQ(SpeakerOf("client.host.12"), "client.host.12");
  EXPECT_TRUE(SpeaksForTeacher("teacher.13"));
  EXPECT_FALSE(SpeaksForTeacher("teacher.13/2"));
  EXPECT_FALSE(SpeaksForTeacher("generator"));
}

TEST(Device, CudaAloneIsItsFirst) {
  EXPECT_EQ(Spell(*ParseDevice("cuda")), "cuda:0");
  EXPECT_EQ(Spell(*ParseDevice("cuda:12")), "cuda:12");
  EXPECT_EQ(Spell(*ParseDevice("cpu")), "cpu");
}

TEST(Device, OtherTextsNameNothing) {
  for (const char* text : {"", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda0", "cuda:1 ", "CUDA"}) {
    EXPECT_FALSE(ParseDevice(text)) << text;
  }
}

}  // namespace
}  // namespace sgmd
