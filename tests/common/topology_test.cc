// What a topology file may say of one host, and what it is refused for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/placement.h"
#include "common/storage/safetensors.h"
#include "tests/common/config_fixture.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TopologyFile : public ConfigFixture {};

TEST_F(TopologyFile, ReadsBlockCheckpointing) {
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  WriteFileAtomically(folder_ / "t.toml",
                      "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n[fake_score]\ncheckpoint_blocks = true\n");
  SaveRun(LoadLaunchPlan(folder_ / "t.toml"));
  const Topology topology = LoadRun(folder_ / "run").topology;
  EXPECT_FALSE(topology.generator.checkpoint_blocks);
  EXPECT_TRUE(topology.fake_score.checkpoint_blocks);
}

TEST_F(TopologyFile, KeepsBlocksOfThoseThatRunAgain) {
  WriteFileAtomically(folder_ / "e.toml", With("[data]", "micro_batches = 2"));
  const auto load = [&](const std::string& fake_score) {
    WriteFileAtomically(folder_ / "t.toml",
                        "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n[fake_score]\n" + fake_score);
    SaveRun(LoadLaunchPlan(folder_ / "t.toml"));
    return LoadRun(folder_ / "run");
  };
  const auto kept = [](const LaunchPlan& plan) { return PlacementOf(plan, {Role::kFakeScore}).keep_blocks; };
  EXPECT_EQ(load("").topology.fake_score.keep_blocks, Topology::kAsManyAsFit);
  EXPECT_EQ(kept(load("checkpoint_blocks = true\n")), 0) << "until a plan has decided";
  EXPECT_EQ(kept(load("checkpoint_blocks = true\nkeep_blocks = 3\n")), 3);
  EXPECT_EQ(kept(load("keep_blocks = 3\n")), 0);
  EXPECT_EQ(kept(load("keep_blocks = 3\ndevices = [\"cpu\", \"cpu\"]\n")), 3);
  const auto error = [&](const std::string& text) { return sgmd::ErrorOf([&] { load(text); }); };
  for (const char* wrong :
       {"keep_blocks = -2\n", "keep_blocks = 1001\n", "keep_blocks = 1.5\n", "keep_blocks = \"all\"\n"})
    EXPECT_THAT(error(wrong), HasSubstr("t.toml:5:15: \"keep_blocks\" ")) << wrong;
}

TEST_F(TopologyFile, TeachersTakeTheListedDevicesInTurn) {
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  const auto load = [&](const std::string& teacher) {
    WriteFileAtomically(folder_ / "t.toml", "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n[teacher]\n" + teacher);
    SaveRun(LoadLaunchPlan(folder_ / "t.toml"));
    return LoadRun(folder_ / "run");
  };
  const auto device = [](const LaunchPlan& plan, int replica) {
    return Spell(PlacementOf(plan, {Role::kTeacher, replica}).device);
  };
  const LaunchPlan plan = load("devices = [\"cuda:2\", \"cuda:3\"]\ndevice_memory_gib = 79\n");
  EXPECT_EQ(device(plan, 0), "cuda:2");
  EXPECT_EQ(device(plan, 3), "cuda:3");
  EXPECT_EQ(PlacementOf(plan, {Role::kTeacher}).device_memory_gib, 79.0);
  EXPECT_EQ(PlacementOf(plan, {Role::kGenerator}).device_memory_gib, 0.0);
  EXPECT_EQ(device(load("device = \"cuda:1\"\n"), 5), "cuda:1");
  EXPECT_THROW(load("devices = [\"gpu\"]\n"), Error);
}

TEST_F(TopologyFile, OffloadsTeachersThatAreWholeAndOnGpus) {
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  const auto load = [&](const std::string& teacher) {
    WriteFileAtomically(folder_ / "t.toml",
                        "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n[teacher]\noffload = true\n" + teacher);
    SaveRun(LoadLaunchPlan(folder_ / "t.toml"));
    return LoadRun(folder_ / "run");
  };
  const LaunchPlan plan = load("replicas = 2\ndevices = [\"cuda:0\", \"cuda:1\"]\n");
  EXPECT_TRUE(PlacementOf(plan, {Role::kTeacher, 1}).offload);
  EXPECT_FALSE(PlacementOf(plan, {Role::kGenerator}).offload);
  const auto error = [&](const std::string& teacher) { return sgmd::ErrorOf([&] { load(teacher); }); };
  EXPECT_THAT(error("ranks = 2\ndevices = [\"cuda:0\", \"cuda:1\"]\n"),
              AllOf(HasSubstr("t.toml:5:11: a teacher of 2 ranks cannot be offloaded"), HasSubstr("ranks = 1")));
  for (const char* on_cpu : {"", "device = \"cpu\"\n", "devices = [\"cuda:0\", \"cpu\"]\n"})
    EXPECT_THAT(error(on_cpu), HasSubstr("t.toml:5:11: a teacher on the cpu has its blocks in main memory already"));
}

TEST_F(TopologyFile, TilesAreMultiplesOfWhatALatentPixelStandsFor) {
  const auto load = [&](std::int64_t channels, std::int64_t tile) {
    std::string text = kExperiment;
    text.replace(text.find("latent = [3"), 11, StrCat("latent = [", channels));
    WriteFileAtomically(folder_ / "e.toml", text);
    WriteFileAtomically(folder_ / "t.toml",
                        StrCat("[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n[evaluator]\nenabled = true\n"
                               "vae = \"model\"\nvae_tile = ",
                               tile, "\n"));
    return LoadLaunchPlan(folder_ / "t.toml").topology.evaluator.vae_tile;
  };
  EXPECT_EQ(load(16, 0), 0);
  EXPECT_EQ(load(16, 24), 24);
  EXPECT_EQ(load(48, 256), 256);
  EXPECT_THAT(sgmd::ErrorOf([&] { load(48, 24); }),
              AllOf(HasSubstr("t.toml:7:"), HasSubstr("multiples of 16, at least 32"), HasSubstr("256 is usual")));
  EXPECT_THAT(sgmd::ErrorOf([&] { load(16, 8); }), HasSubstr("at least 16"));
  EXPECT_THAT(sgmd::ErrorOf([&] { load(16, -8); }), HasSubstr("\"vae_tile\""));
}

TEST_F(TopologyFile, RefusesEndpointsWithoutAnAddress) {
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  const auto load = [&](const std::string& rest) {
    WriteFileAtomically(folder_ / "t.toml", "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n" + rest);
    return LoadLaunchPlan(folder_ / "t.toml");
  };
  EXPECT_THAT(load("").topology.transport.data, testing::StartsWith("ipc://"));
  EXPECT_NO_THROW(load("[transport]\ndata = \"tcp://127.0.0.1:5555\"\n"));
  EXPECT_THROW(load("[transport]\ndata = \"tcp://*:5555\"\n"), Error);
  EXPECT_FALSE(load("").topology.transport.encrypt);
  EXPECT_THROW(load("[teacher]\ndevice = \"gpu\"\n"), Error);
}

TEST_F(TopologyFile, EnvHoldsFreeNamesOfTextAndReadsBack) {
  const auto read = [&](const std::string& env) {
    Load(kExperiment);
    WriteFileAtomically(folder_ / "t.toml", "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n[env]\n" + env);
    return LoadLaunchPlan(folder_ / "t.toml");
  };
  const LaunchPlan plan = read("OMP_PROC_BIND = \"true\"\nEMPTY = \"\"\n");
  const std::map<std::string, std::string> expected{{"EMPTY", ""}, {"OMP_PROC_BIND", "true"}};
  EXPECT_EQ(plan.topology.env, expected);
  SaveRun(plan);
  EXPECT_EQ(LoadRun(folder_ / "run").topology.env, expected);
  EXPECT_EQ(ExperimentDigest(plan.experiment), ExperimentDigest(read("").experiment));
  const auto error = [&](const std::string& env) { return sgmd::ErrorOf([&] { read(env); }); };
  EXPECT_THAT(error("A-B = \"1\"\n"),
              AllOf(HasSubstr("t.toml:5:7: \"A-B\" cannot be the name of an environment variable")));
  EXPECT_THAT(error("A = 4\n"), HasSubstr("t.toml:5:5: \"A\" must be text in quotes"));
}

TEST_F(TopologyFile, LongRunFoldersGetAShortSocketPath) {
  Topology topology;
  topology.run.folder = "/" + std::string(150, 'x');
  ResolveDefaults(topology);
  EXPECT_LE(topology.transport.data.size(), 107U);
  EXPECT_NE(topology.transport.data, topology.transport.control);
}

}  // namespace
}  // namespace sgmd
