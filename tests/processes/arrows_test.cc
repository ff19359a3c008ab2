// Every arrow of a run: a message of every kind that is kept until it arrives is lost, overtaken and doubled on its way
// into the broker and out of it, and the run ends in the bits of the serial loop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/transport/link.h"
#include "launch/run/exit_codes.h"
#include "nodes/broker/routes.h"
#include "tests/support/free_port.h"
#include "tests/support/tiny_run.h"

namespace sgmd {

using wire::Kind;

// What happens beside training.
enum class Event { kNone, kTeachersLeave, kDrain, kRoleDiesElsewhere };

// The kinds that one run is about, and what it takes that they are sent.
struct Arrows {
  const char* name;
  std::vector<Kind> kinds;
  std::string experiment, topology;
  Event event = Event::kNone;
};

void PrintTo(const Arrows& arrows, std::ostream* out) { *out << arrows.name; }

namespace {

constexpr double kPatience = 120;
constexpr const char* kHarms[] = {"drop", "reorder", "double"};

std::string TwoHosts() {
  const auto endpoint = [] { return StrCat("\"tcp://127.0.0.1:", FreePort(), "\"\n"); };
  return StrCat("[fake_score]\nhost = \"b\"\n[cache]\nfolder = \"cache\"\n[transport]\nencrypt = true\ndata = ",
                endpoint(), "control = ", endpoint());
}

std::vector<Arrows> AllArrows() {
  return {
      {"Scores",
       {Kind::Sample, Kind::Credit, Kind::ScoreLease, Kind::Score, Kind::ScoredSample, Kind::Gradient},
       "",
       ""},
      {"Checkpoints", {Kind::CheckpointOrder, Kind::CheckpointPart, Kind::Finished, Kind::Close}, "", ""},
      {"Anchors",
       {Kind::AnchorRequest, Kind::AnchorLease, Kind::Anchor, Kind::ServedAnchor},
       "[diversity]\nweight = 0.5\nnoise_bank = 24\n",
       ""},
      {"InnerLoops",
       {Kind::InnerSample, Kind::StudentWeights},
       "[inner]\nsource = \"fresh\"\n[objective]\nalignment = 0.25\n",
       ""},
      {"ADrain", {Kind::Drain}, "", "", Event::kDrain},
      {"TeachersThatLeave",
       {Kind::Scale, Kind::Scaled, Kind::Leave, Kind::NodeExited},
       "",
       "[teacher]\nreplicas = 4\n",
       Event::kTeachersLeave},
      {"ADeathElsewhere", {Kind::RoleFailed}, "", TwoHosts(), Event::kRoleDiesElsewhere},
  };
}

// Numbered kinds that no run which ends in its last step sends.
const std::map<Kind, const char*> kNever{
    {Kind::Failed, "ends the run with an error (Replay.OfWhatWasNotRecordedSaysSo)"},
};

// The processes that send `kind`, as SGMD_FAILPOINTS names them: whoever the broker takes it from, and the broker where
// it passes it on or is its only source. On which socket is the same for all.
std::set<std::string> SendersOf(Kind kind, std::string* place) {
  std::set<std::string> senders;
  for (const auto& [socket, name] :
       {std::pair(Socket::kData, "data.send"), std::pair(Socket::kControl, "control.send")}) {
    for (const char* node : {"generator", "fake_score", "teacher.0", "launcher", "client.1"}) {
      const Route* route = RouteOf(socket, kind, node);
      if (route == nullptr) continue;
      *place = name;
      const std::string role(RoleOf(node));
      senders.insert(role == "launcher" || role == "client" ? "launch" : role);
      if (*route->to != '\0') senders.insert("broker");
    }
  }
  // The broker passes these on by its own lights, and has those that no route takes in by itself.
  if (kind == Kind::CheckpointPart || kind == Kind::Drain || kind == Kind::Scale || senders.empty())
    senders.insert("broker");
  if (place->empty()) *place = kind == Kind::Scaled ? "control.send" : "data.send";
  return senders;
}

class EveryArrow : public testing::TestWithParam<Arrows> {
 protected:
  void SetUp() override {
    const Arrows& arrows = GetParam();
    const bool calm = arrows.event == Event::kNone;
    run_ = std::make_unique<TinyRun>(calm                                    ? 12
                                     : arrows.event == Event::kTeachersLeave ? 120
                                                                             : 50,
                                     arrows.experiment, arrows.topology);
    for (const Kind kind : arrows.kinds) {
      std::string place;
      for (const std::string& sender : SendersOf(kind, &place)) {
        for (const char* harm : kHarms)
          rules_.push_back(StrCat(place, ".", wire::EnumNameKind(kind), "[", sender, "]=", harm, "!"));
      }
    }
    std::filesystem::create_directory(Marks());
    const std::string pace = calm ? "" : "generator.step=sleep(100ms)";  // or it would be at its end too soon
    ::setenv("SGMD_FAILPOINTS", (Joined(rules_, ";") + ";" + pace).c_str(), 1);
    ::setenv("SGMD_FAILPOINTS_MARKS", Marks().c_str(), 1);
  }
  ~EveryArrow() override {
    for (const char* name : {"SGMD_FAILPOINTS", "SGMD_FAILPOINTS_MARKS"}) ::unsetenv(name);
  }

  std::filesystem::path Marks() const { return run_->folder() / "marks"; }
  std::vector<std::string> NotFired() const {
    std::vector<std::string> rules;
    for (std::size_t i = 0; i < rules_.size(); ++i) {
      if (!std::filesystem::exists(Marks() / std::to_string(i))) rules.push_back(rules_[i]);
    }
    return rules;
  }

  // Each starts the run and returns the launcher that is to come to its end.
  Process Train() { return run_->Launch({"up", run_->topology()}); }
  // Three of four, as three orders say.
  Process LoseTeachers() {
    const Process up = Train();
    EXPECT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << up.Output();
    for (int i = 0; i < 3; ++i) {
      const Process order = run_->Launch({"scale", run_->topology(), "teacher=1"});
      EXPECT_EQ(order.Wait(30), 0) << order.Output();
    }
    return up;
  }
  // By a signal to the launcher, and by an order from what is, as the lock says, another machine.
  Process DrainAndGoOn() {
    const Process up = Train();
    EXPECT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << up.Output();
    std::ofstream(run_->run() / ".lock") << "1 on elsewhere";
    const Process down = run_->Launch({"down", run_->topology()});
    ::kill(up.pid, SIGINT);
    EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
    EXPECT_EQ(down.Wait(kPatience), 0) << down.Output();
    return Train();
  }
  // As often as it takes: what is still on its way when the run begins anew is of no use.
  Process LoseARoleOfAnotherHost() {
    const std::string topology = run_->topology().string();
    EXPECT_EQ(std::system(("sed -i '/^folder = \"run\"/a hosts = [\"a\", \"b\"]' " + topology).c_str()), 0);
    const Process a = run_->Launch({"up", topology, "--host", "a"}), b = run_->Launch({"up", topology, "--host", "b"});
    for (int step = 5; step <= 20 && !NotFired().empty(); step += 5) {
      EXPECT_TRUE(run_->WaitForCheckpoint(step, 20)) << a.Output();
      EXPECT_TRUE(run_->Kill("sgmd-fake-score"));
    }
    return a;
  }

  std::unique_ptr<TinyRun> run_;
  std::vector<std::string> rules_;
};

TEST_P(EveryArrow, LosesDoublesAndReordersWithoutATrace) {
  const auto start = [&] {
    switch (GetParam().event) {
      case Event::kTeachersLeave:
        return LoseTeachers();
      case Event::kDrain:
        return DrainAndGoOn();
      case Event::kRoleDiesElsewhere:
        return LoseARoleOfAnotherHost();
      default:
        return Train();
    }
  };
  const Process up = start();
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run_->run()), run_->SerialState());
  EXPECT_THAT(NotFired(), testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Of, EveryArrow, testing::ValuesIn(AllArrows()),
                         [](const auto& info) { return std::string(info.param.name); });

// A new kind of message has its run here, or a reason why there is none.
TEST(Arrows, AreThoseOfAllNumberedKinds) {
  std::map<Kind, int> times;
  for (const Arrows& arrows : AllArrows()) {
    for (const Kind kind : arrows.kinds) ++times[kind];
  }
  for (const Kind kind : wire::EnumValuesKind()) {
    if (!IsNumbered(kind)) continue;
    EXPECT_EQ(times[kind] + kNever.count(kind), 1U) << wire::EnumNameKind(kind);
  }
}

}  // namespace
}  // namespace sgmd
