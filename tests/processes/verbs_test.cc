// A run that is left alone: in the background, waited for, looked at afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_control.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
constexpr double kPatience = 120;

class Verbs : public testing::Test {
 protected:
  // A run in the background is not a child of the test: what is left of it is ended here.
  ~Verbs() override {
    for (const auto& [pid, topology] : detached_) {
      const std::filesystem::path words = "/proc/" + std::to_string(pid) + "/cmdline";
      if (std::filesystem::exists(words) && ReadFile(words).find(topology) != std::string::npos) ::kill(pid, SIGKILL);
    }
  }
  void UpDetached(TinyRun& run) {
    const Process up = run.Launch({"up", run.topology(), "--detach", "--allow-oversize"});
    ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
    EXPECT_THAT(up.Output(), HasSubstr("sgmd-launch down " + run.run().string()));
    const auto holder = RunLock::HolderOf(run.run());
    ASSERT_TRUE(holder);
    detached_.emplace_back(holder->pid, run.topology().string());
  }
  static json StatusOf(TinyRun& run) {
    const Process status = run.Launch({"status", run.run(), "--json"});
    EXPECT_EQ(status.Wait(30), 0) << status.Output();
    return json::parse(status.Output());
  }
  static int Run(TinyRun& run, const std::vector<std::string>& arguments) {
    const Process process = run.Launch(arguments);
    const int code = process.Wait(kPatience);
    last_ = process.Output();
    return code;
  }
  static std::vector<std::string> KeysOf(const json& object) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.items()) keys.push_back(key);
    return keys;
  }
  inline static std::string last_;                       // output of the last Run
  std::vector<std::pair<pid_t, std::string>> detached_;  // launchers, and a word of theirs
};

TEST_F(Verbs, ARunInTheBackgroundIsListedWaitedForAndDrained) {
  TinyRun run(100000);
  UpDetached(run);
  const int launcher = RunLock::HolderOf(run.run())->pid;
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience));
  const json live = StatusOf(run);
  EXPECT_EQ(live["state"], "running");
  EXPECT_EQ(live["pid"], launcher);
  EXPECT_EQ(live["steps"], 100000);
  EXPECT_TRUE(live["live"].contains("nodes"));
  ASSERT_EQ(Run(run, {"ps", "--json"}), 0) << last_;
  const json runs = json::parse(last_);
  const auto ours =
      std::ranges::find_if(runs, [&](const json& one) { return one["run_folder"] == run.run().string(); });
  ASSERT_NE(ours, runs.end()) << last_;
  EXPECT_EQ((*ours)["pid"], launcher);
  EXPECT_EQ(Run(run, {"wait", run.run(), "--timeout", "0.5"}), kExitTimeout) << last_;
  const Process wait = run.Launch({"wait", run.topology()}), watch = run.Launch({"status", run.run(), "--watch"});
  std::this_thread::sleep_for(std::chrono::seconds(3));
  EXPECT_EQ(Run(run, {"down", run.run()}), 0) << last_;
  EXPECT_EQ(wait.Wait(30), kExitDrained) << wait.Output();
  EXPECT_EQ(watch.Wait(30), kExitDrained) << watch.Output();
  EXPECT_THAT(watch.Output(), AllOf(HasSubstr("running, step "), HasSubstr("drained, step ")));
  const json ended = StatusOf(run);
  EXPECT_EQ(KeysOf(ended), KeysOf(live)) << "the same keys for every run";
  EXPECT_EQ(ended["state"], "drained");
  EXPECT_EQ(ended["exit_code"], kExitDrained);
  EXPECT_EQ(ended["next_command"], "sgmd-launch up " + run.run().string());
  EXPECT_TRUE(ended["live"].is_null());
}

TEST_F(Verbs, AFinishedRunSaysItsStudentAndItsHistory) {
  TinyRun run(4);
  std::filesystem::create_directories(run.run());
  ASSERT_EQ(StatusOf(run)["state"], "never_started");
  ASSERT_EQ(Run(run, {"up", run.topology(), "--quiet"}), kExitFinished) << last_;
  const json status = StatusOf(run);
  EXPECT_EQ(status["state"], "finished");
  EXPECT_EQ(status["step"], 4);
  EXPECT_EQ(status["student"], (run.run() / "student").string());
  EXPECT_EQ(Run(run, {"wait", run.run()}), kExitFinished) << last_;
  EXPECT_EQ(Run(run, {"history", run.run()}), 0);
  EXPECT_THAT(last_, AllOf(HasSubstr("start 1 from step 0"), HasSubstr("finished at step 4, exit code 0")));
}

TEST_F(Verbs, AFailureKeepsItsCause) {
  TinyRun run(4, "", "[restart]\nattempts = 0\n");
  WriteFileAtomically(run.folder() / "model" / "diffusion_pytorch_model.safetensors", "not tensors");
  EXPECT_EQ(Run(run, {"up", run.topology(), "--quiet"}), kExitFailed) << last_;
  const json status = StatusOf(run);
  EXPECT_EQ(status["state"], "failed");
  EXPECT_THAT(status["cause"].get<std::string>(), HasSubstr("exit code 1"));
  EXPECT_EQ(Run(run, {"wait", run.run()}), kExitFailed) << last_;
}

TEST_F(Verbs, AKilledRunSaysSoAndARefusedOneWasNotStarted) {
  TinyRun run(100000);
  EXPECT_EQ(Run(run, {"up", run.topology(), "--detach", "--set", "experiment.steps=0"}), kExitRefused);
  EXPECT_THAT(last_, HasSubstr("\"steps\" is out of range"));
  EXPECT_FALSE(std::filesystem::exists(run.run()));
  UpDetached(run);
  EXPECT_EQ(Run(run, {"up", run.topology(), "--detach"}), kExitRefused) << last_;
  EXPECT_THAT(last_, HasSubstr("a run is already up in this folder"));
  EXPECT_EQ(Run(run, {"down", run.run(), "--now"}), 0) << last_;
  EXPECT_EQ(StatusOf(run)["state"], "killed");
  EXPECT_EQ(Run(run, {"wait", run.run()}), kExitKilled) << last_;
}

// kill -9 of the launcher writes no end.
TEST_F(Verbs, ARunWhoseLauncherDiedIsKilledNotUp) {
  TinyRun run(100000);
  UpDetached(run);
  ASSERT_EQ(::kill(RunLock::HolderOf(run.run())->pid, SIGKILL), 0);
  for (int i = 0; i < 500 && RunLock::HolderOf(run.run()); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const json status = StatusOf(run);
  EXPECT_EQ(status["state"], "killed");
  EXPECT_THAT(status["cause"].get<std::string>(), HasSubstr("was killed from outside"));
  EXPECT_EQ(Run(run, {"history", run.run()}), 0);
  EXPECT_THAT(last_, HasSubstr("without an end: "));
}

TEST_F(Verbs, ScaleIsRememberedUntilTheTopologySaysOtherwise) {
  TinyRun run(100000);
  UpDetached(run);
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience));
  EXPECT_EQ(Run(run, {"scale", run.run(), "teacher=0"}), 1);
  EXPECT_THAT(last_, HasSubstr("from 1 to 4096 teachers, not 0"));
  EXPECT_EQ(Run(run, {"scale", run.run(), "teacher=5000"}), 1);
  EXPECT_EQ(Run(run, {"scale", run.run(), "teacher=2"}), 0) << last_;
  EXPECT_EQ(Run(run, {"down", run.run()}), 0) << last_;
  ASSERT_EQ(Run(run, {"plan", run.topology()}), 0) << last_;
  EXPECT_THAT(last_, AllOf(HasSubstr("2 teachers, as `scale` said; the topology says 1"), HasSubstr("\nteacher.1 ")));
  UpDetached(run);
  EXPECT_EQ(LoadRun(run.run()).topology.teacher.replicas, 2);
  EXPECT_EQ(Run(run, {"down", run.run(), "--now"}), 0) << last_;
  ASSERT_EQ(Run(run, {"plan", run.topology(), "--set", "teacher.replicas=3"}), 0) << last_;
  EXPECT_THAT(last_, HasSubstr("3 teachers, as --set says; `scale` had said 2"));
  EXPECT_EQ(Run(run, {"up", run.topology(), "--set", "teacher.replicas=3", "--set", "experiment.steps=1"}), 0) << last_;
  ASSERT_EQ(Run(run, {"plan", run.topology()}), 0);
  EXPECT_THAT(last_, testing::Not(HasSubstr("`scale`"))) << "--set was another word";
}

TEST_F(Verbs, ScaleAsksTheMemoryPlanFirst) {
  TinyRun run(100000, "", "[teacher]\ndevice_memory_gib = 0.00001\n");
  UpDetached(run);
  EXPECT_EQ(Run(run, {"scale", run.run(), "teacher=2"}), kExitRefused);
  EXPECT_THAT(last_, AllOf(HasSubstr("does not fit"), HasSubstr("the run goes on as it is")));
  EXPECT_EQ(Run(run, {"scale", run.run(), "teacher=2", "--allow-oversize"}), 0) << last_;
}

TEST_F(Verbs, LogsAreMergedAndSearched) {
  TinyRun run(4);
  ASSERT_EQ(Run(run, {"up", run.topology(), "--quiet"}), 0) << last_;
  ASSERT_EQ(Run(run, {"logs", run.run(), "--since", "1h"}), 0) << last_;
  EXPECT_THAT(last_,
              AllOf(HasSubstr("broker      | 20"), HasSubstr("generator   | 20"), HasSubstr("teacher.0   | 20")));
  ASSERT_EQ(Run(run, {"logs", run.run(), "broker", "--grep", "serving on", "-n", "1"}), 0) << last_;
  EXPECT_THAT(last_, AllOf(HasSubstr("serving on ipc://"), testing::Not(HasSubstr("broker      |"))));
  EXPECT_EQ(Run(run, {"logs", run.run(), "--grep", "("}), 1);
  EXPECT_THAT(last_, HasSubstr("is no regular expression"));
}

TEST_F(Verbs, BashCompletesVerbsOptionsChoicesAndFiles) {
  TinyRun run(4);
  const auto complete = [&](const std::string& words) {
    const std::string script = "cd " + run.folder().string() +
                               "; source <(" SGMD_BIN_DIR "/sgmd-launch completion bash); COMP_WORDS=(" + words +
                               "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sgmd_launch; echo \" ${COMPREPLY[*]} \"";
    const Process bash = run.Start({"/bin/bash", "-c", script});
    EXPECT_EQ(bash.Wait(30), 0);
    return bash.Output();
  };
  EXPECT_THAT(complete("sgmd-launch st"), " status \n");
  EXPECT_THAT(complete("sgmd-launch ''"), AllOf(HasSubstr(" up "), HasSubstr(" wait "), HasSubstr(" ps ")));
  EXPECT_THAT(complete("sgmd-launch up --de"), " --detach \n");
  EXPECT_THAT(complete("sgmd-launch logs topology.toml --"), AllOf(HasSubstr(" --since "), HasSubstr(" --grep ")));
  EXPECT_THAT(complete("sgmd-launch up topo"), " topology.toml \n");
  EXPECT_THAT(complete("sgmd-launch status mod"), " model \n") << "a folder";
  EXPECT_THAT(complete("sgmd-launch completion z"), " zsh \n");
}

TEST_F(Verbs, EachTeachesWithAnExample) {
  TinyRun run(4);
  ASSERT_EQ(Run(run, {"--help"}), 0);
  EXPECT_THAT(last_, AllOf(HasSubstr("75   drained"), HasSubstr("124  wait --timeout")));
  for (const char* verb : {"plan", "up", "replay", "status", "wait", "ps", "history", "logs", "scale", "down",
                           "completion", "reference"}) {
    EXPECT_EQ(Run(run, {verb, "--help"}), 0);
    EXPECT_THAT(last_, HasSubstr(std::string("sgmd-launch ") + verb));
  }
}

}  // namespace
}  // namespace sgmd
