#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr char kExperiment[] = R"([experiment]
name = "t"
steps = 4
[model]
teacher = "model"
prompts = "bank"
guidance = 2
[data]
latent = [3, 4, 4, 4]
[optimizer.generator]
learning_rate = 1e-4
[optimizer.fake_score]
learning_rate = 1e-4
)";

class Config : public testing::Test {
 protected:
  Config() {
    std::filesystem::create_directories(folder_ / "model");
    WriteFileAtomically(folder_ / "model/config.json", "{}");
    WriteFileAtomically(folder_ / "model/m.safetensors", "weights");
    WriteFileAtomically(folder_ / "bank", "bank");
  }
  Experiment Load(const std::string& text) {
    WriteFileAtomically(folder_ / "e.toml", text);
    return LoadExperiment(folder_ / "e.toml");
  }
  std::string ErrorOf(const std::string& text) {
    try {
      Load(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string With(const std::string& section, const std::string& line) {
    std::string text = kExperiment;
    const std::size_t at = text.find(section);
    return at == std::string::npos ? text + section + "\n" + line + "\n" : text.insert(at + section.size() + 1, line + "\n");
  }
  TempFolder folder_;
};

TEST_F(Config, UnknownKeyIsLocatedAndCorrected) {
  const std::string error = ErrorOf(With("[data]", "micro_bach = 2"));
  EXPECT_THAT(error, HasSubstr("e.toml:9:1"));
  EXPECT_THAT(error, HasSubstr("9 | micro_bach = 2\n    | ^"));
  EXPECT_THAT(error, HasSubstr("did you mean \"micro_batch\"?"));
}

TEST_F(Config, WrongTypeRangeChoiceAndMissingKeySayWhatIsAllowed) {
  EXPECT_THAT(ErrorOf(With("[data]", "micro_batch = \"two\"")), HasSubstr("must be an integer"));
  EXPECT_THAT(ErrorOf(With("[data]", "micro_batch = 0")), HasSubstr("allowed: [1"));
  EXPECT_THAT(ErrorOf(With("[objective]", "name = \"sgdm\"")), HasSubstr("one of: sgmd, dmd2, tsg_fisher, tsg_sim"));
  EXPECT_THAT(ErrorOf("[experiment]\nsteps = 3\n"), HasSubstr("\"name\" is missing in [experiment]"));
  EXPECT_THAT(ErrorOf(With("[schedule]", "student_steps = [500, 750]")), HasSubstr("strictly descending"));
  EXPECT_THAT(ErrorOf("[experiment\n"), HasSubstr("e.toml:1:"));
}

TEST_F(Config, ResolvedExperimentReadsBackToTheSameIdentity) {
  const Experiment e = Load(With("[ema]", "decay = 0.1"));
  WriteFileAtomically(folder_ / "resolved.toml", ToToml(e));
  const Experiment again = LoadExperiment(folder_ / "resolved.toml");
  EXPECT_EQ(ToToml(again), ToToml(e));
  EXPECT_EQ(ExperimentDigest(again), ExperimentDigest(e));
}

TEST_F(Config, AdaptersAndPrecisionReadBack) {
  const Experiment e = Load(std::string(kExperiment) +
                            "[lora]\nrank = 8\ntargets = [\"q\", \"ffn.0\"]\n[precision]\ncompute = \"bfloat16\"\n");
  EXPECT_EQ(e.lora.alpha, 8);  // default: the rank
  EXPECT_TRUE(AdaptsLinear(e.lora, "cross_attn.q"));
  EXPECT_TRUE(AdaptsLinear(e.lora, "ffn.0"));
  EXPECT_FALSE(AdaptsLinear(e.lora, "self_attn.o"));
  WriteFileAtomically(folder_ / "resolved.toml", ToToml(e));
  const Experiment again = LoadExperiment(folder_ / "resolved.toml");
  EXPECT_EQ(ToToml(again), ToToml(e));
  EXPECT_EQ(again.lora.targets, e.lora.targets);
  EXPECT_EQ(again.compute, "bfloat16");
}

TEST_F(Config, AdapterMistakesAreLocated) {
  EXPECT_THAT(ErrorOf(With("[lora]", "targets = [\"k\", \"ffn.1\"]")), HasSubstr("no Linear of a block ends in \"ffn.1\""));
  EXPECT_THAT(ErrorOf(With("[lora]", "rank = 4\ntargets = []")), HasSubstr("\"targets\" is empty"));
  EXPECT_THAT(ErrorOf(With("[lora]", "rank = 4\nalpha = 0")), HasSubstr("\"alpha\" must be above 0"));
  EXPECT_THAT(ErrorOf(With("[lora]", "targets = [1]")), HasSubstr("must be a list of texts"));
  EXPECT_THAT(ErrorOf(With("[precision]", "compute = \"float16\"")), HasSubstr("one of: float32, bfloat16"));
}

TEST_F(Config, DigestIgnoresLengthAndPlaceAndSeesWhatDecidesTheWeights) {
  const Experiment e = Load(kExperiment);
  const Digest digest = ExperimentDigest(e);
  Experiment same = e;
  same.name = "other";
  same.steps = 99;
  same.checkpoint_every = 7;
  EXPECT_EQ(ExperimentDigest(same), digest);
  const auto changed = [&](auto change) {
    Experiment copy = e;
    change(copy);
    return ExperimentDigest(copy) != digest;
  };
  EXPECT_TRUE(changed([](Experiment& x) { x.seed = 2; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.guidance = 3; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.lambda = 0.2; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.compute = "bfloat16"; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.lora.rank = 4; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.lora.targets = {"q"}; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.generator_threads = 2; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.fake_score_optimizer.beta2 = 0.9; }));
  WriteFileAtomically(folder_ / "model/m.safetensors", "other weights");
  EXPECT_NE(ExperimentDigest(e), digest);
}

TEST_F(Config, TopologyRefusesEndpointsOthersCanReach) {
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  const auto load = [&](const std::string& rest) {
    WriteFileAtomically(folder_ / "t.toml", "[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n" + rest);
    return LoadLaunchPlan(folder_ / "t.toml");
  };
  EXPECT_THAT(load("").topology.data_endpoint, testing::StartsWith("ipc://"));
  EXPECT_NO_THROW(load("[transport]\ndata = \"tcp://127.0.0.1:5555\"\n"));
  EXPECT_THROW(load("[transport]\ndata = \"tcp://*:5555\"\n"), Error);
  EXPECT_THROW(load("[teacher]\ndevice = \"gpu\"\n"), Error);
  EXPECT_TRUE(load("[fake_score]\ncheckpoint_blocks = true\n").topology.fake_score_checkpoint_blocks);
}

TEST_F(Config, LongRunFoldersGetAShortSocketPath) {
  Topology topology;
  topology.run_folder = "/" + std::string(150, 'x');
  ResolveDefaults(topology);
  EXPECT_LE(topology.data_endpoint.size(), 107U);
  EXPECT_NE(topology.data_endpoint, topology.control_endpoint);
}

}  // namespace
}  // namespace sgmd
