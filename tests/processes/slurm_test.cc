// The scripts of `plan --emit slurm`, submitted to a real Slurm: a run ends in the weights of the serial loop on one
// node and on two, however often its job is started again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <thread>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/free_port.h"
#include "tests/support/slurm_cluster.h"
#include "tests/support/tiny_run.h"
#include "tests/support/wait_until.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 100;

class Slurm : public testing::Test {
 protected:
  void SetUp() override {
    if (!SlurmCluster::Available()) GTEST_SKIP() << "needs root, slurm-wlm and munge";
    cluster_.emplace();
  }
  // On hosts a and b, the fake score and a teacher on b.
  void MakeOverTwoHosts(std::int64_t steps) {
    const auto endpoint = [] { return StrCat("tcp://127.0.0.1:", FreePort()); };
    run_.emplace(steps, "",
                 StrCat("[fake_score]\nhost = \"b\"\n[teacher]\nreplicas = 2\nhosts = [\"a\", \"b\"]\n",
                        "[cache]\nfolder = \"cache\"\n[transport]\ndata = \"", endpoint(), "\"\ncontrol = \"",
                        endpoint(), "\"\nsilence_seconds = 4\nencrypt = true\n"));
    std::string text = ReadFile(run_->topology());
    text.insert(text.find("folder = \"run\""), "hosts = [\"a\", \"b\"]\n");
    WriteFileAtomically(run_->topology(), text);
  }
  std::string Submit() {
    const Process plan = run_->Launch({"plan", run_->topology(), "--emit", "slurm", "--time", "30:00"});
    EXPECT_EQ(plan.Wait(30), 0) << plan.Output();
    WriteFileAtomically(run_->folder() / "job.sh", plan.Output());
    return cluster_->Submit(run_->folder() / "job.sh");
  }
  std::string Log(const std::string& job) const {
    try {
      return ReadFile(run_->run() / "logs" / StrCat("slurm-", job, ".log"));
    } catch (const Error&) {
      return "no log";
    }
  }
  // Slurm lets a job that is queued again wait for two minutes; it may begin now.
  void LetBeginAgain(const std::string& job) {
    ASSERT_TRUE(cluster_->WaitFor(job, "PENDING", kPatience)) << cluster_->Run("scontrol show job " + job) << Log(job);
    cluster_->Run(StrCat("scontrol update JobId=", job, " StartTime=now"));
  }
  void ExpectSerialWeights(const std::string& job) {
    ASSERT_TRUE(cluster_->WaitFor(job, "COMPLETED", kPatience))
        << cluster_->Run("scontrol show job " + job) << cluster_->Run("sinfo") << Log(job);
    EXPECT_EQ(TinyRun::NewestState(run_->run()), run_->SerialState());
  }

  std::optional<SlurmCluster> cluster_;
  std::optional<TinyRun> run_;
};

TEST_F(Slurm, RunsAJobOfOneNode) {
  run_.emplace(12);
  ExpectSerialWeights(Submit());
}

TEST_F(Slurm, RunsAJobOfTwoNodesWithALauncherOnEach) {
  MakeOverTwoHosts(12);
  const std::string job = Submit();
  ExpectSerialWeights(job);
  EXPECT_THAT(Log(job), HasSubstr("fake_score  |"));
}

TEST_F(Slurm, AJobThatIsQueuedAgainGoesOnFromItsCheckpoint) {
  run_.emplace(400);
  const std::string job = Submit();
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << Log(job);
  cluster_->Run("scontrol requeue " + job);
  LetBeginAgain(job);
  ExpectSerialWeights(job);
  EXPECT_THAT(Log(job), HasSubstr("resuming at step"));
  EXPECT_THAT(Log(job), HasSubstr("starting at step 0")) << "the log of the first time is kept";
}

TEST_F(Slurm, AJobWhoseNodeDiesIsQueuedAgainAndGoesOn) {
  MakeOverTwoHosts(400);
  const std::string job = Submit();
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << Log(job);
  cluster_->Kill("b");
  ASSERT_TRUE(cluster_->WaitFor(job, "PENDING", kPatience)) << Log(job);
  cluster_->StartNode("b");
  ASSERT_TRUE(cluster_->NodesAreIdle(30)) << cluster_->Run("sinfo");
  std::this_thread::sleep_for(std::chrono::seconds(5));  // until Slurm has had the node end what it ran of the job
  LetBeginAgain(job);
  ExpectSerialWeights(job);
  EXPECT_THAT(Log(job), HasSubstr("resuming at step"));
}

TEST_F(Slurm, TeachersOfAJobAreScaledWhileItRuns) {
  MakeOverTwoHosts(100000);
  const std::string job = Submit();
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << Log(job);
  const Process scale = run_->Launch({"scale", run_->topology(), "teacher=4"});
  ASSERT_EQ(scale.Wait(30), 0) << scale.Output();
  EXPECT_TRUE(WaitUntil(30, [&] { return run_->Pids("teacher.3").size() == 1; })) << Log(job);
  const Process down = run_->Launch({"down", run_->topology()});
  EXPECT_EQ(down.Wait(kPatience), 0) << down.Output();
  // Drained: exit code 75 says that the run is not at its end.
  EXPECT_TRUE(cluster_->WaitFor(job, "FAILED", kPatience)) << cluster_->Run("scontrol show job " + job) << Log(job);
}

}  // namespace
}  // namespace sgmd
