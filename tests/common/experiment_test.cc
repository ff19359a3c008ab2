// What an experiment file may say, what it is refused for, and what its identity covers.
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

class ExperimentFile : public ConfigFixture {};

TEST_F(ExperimentFile, UnknownKeyIsLocatedAndCorrected) {
  const std::string error = ErrorOf(With("[data]", "micro_bach = 2"));
  EXPECT_THAT(error, HasSubstr("e.toml:9:1"));
  EXPECT_THAT(error, HasSubstr("9 | micro_bach = 2\n    | ^"));
  EXPECT_THAT(error, HasSubstr("did you mean \"micro_batch\"?"));
}

TEST_F(ExperimentFile, WrongTypeRangeChoiceAndMissingKeySayWhatIsAllowed) {
  EXPECT_THAT(ErrorOf(With("[data]", "micro_batch = \"two\"")), HasSubstr("must be an integer"));
  EXPECT_THAT(ErrorOf(With("[data]", "micro_batch = 0")), HasSubstr("allowed: [1"));
  EXPECT_THAT(ErrorOf(With("[objective]", "name = \"sgdm\"")), HasSubstr("one of: sgmd, dmd2, tsg_fisher, tsg_sim"));
  EXPECT_THAT(ErrorOf("[experiment]\nsteps = 3\n"), HasSubstr("\"name\" is missing in [experiment]"));
  EXPECT_THAT(ErrorOf(With("[schedule]", "student_steps = [500, 750]")), HasSubstr("strictly descending"));
  EXPECT_THAT(ErrorOf(With("[schedule]", "exit_weights = [1, 1]")), HasSubstr("for each of the 4 student steps"));
  EXPECT_THAT(ErrorOf(With("[schedule]", "exit_weights = [0, 0, 0, 0]")), HasSubstr("not all of them 0"));
  EXPECT_THAT(ErrorOf("[experiment\n"), HasSubstr("e.toml:1:"));
}

TEST_F(ExperimentFile, DiversityIsPartOfTheIdentityWhereItDecidesAnything) {
  const std::string bank = With("[diversity]", "weight = 0.05\nnoise_bank = 12");
  const Experiment off = Load(With("[diversity]", "noise_bank = 12")), on = Load(bank);
  EXPECT_EQ(ExperimentDigest(off), ExperimentDigest(Load(kExperiment)));
  EXPECT_NE(ExperimentDigest(on), ExperimentDigest(off));
  Experiment other = on;
  other.diversity.anchor_steps = 4;
  EXPECT_NE(ExperimentDigest(other), ExperimentDigest(on));
  EXPECT_THAT(ErrorOf(With("[diversity]", "anchor_steps = 31")), HasSubstr("allowed: [1, 30"));
  EXPECT_THAT(ErrorOf(With("[diversity]", "weight = -1")), HasSubstr("allowed: >= 0"));
  EXPECT_EQ(Load(With("[diversity]", "anchor_grid = 3")).diversity.anchor_steps, 3);
  std::string odd = bank;
  odd.insert(odd.find("latent"), "micro_batch = 5\n");
  EXPECT_THAT(ErrorOf(odd), HasSubstr("\"noise_bank\" is 12, not a multiple of micro_batch = 5"));
  EXPECT_THAT(ErrorOf(bank + "[schedule]\nstudent_steps = [1000]\n"), HasSubstr("at least 2 steps"));
  EXPECT_THAT(ErrorOf(bank + "[schedule]\nexit_weights = [1, 0, 0, 0]\n"), HasSubstr("exits after the first"));
}

TEST_F(ExperimentFile, OptionsOfTheMethodReadBackAndAreRefusedWhereTheyMeanNothing) {
  const Experiment plain = Load(kExperiment);
  const auto load = [&](const std::string& section, const std::string& line) {
    const Experiment e = Load(With(section, line));
    WriteFileAtomically(folder_ / "resolved.toml", ToToml(e));
    EXPECT_EQ(ToToml(LoadExperiment(folder_ / "resolved.toml")), ToToml(e));
    EXPECT_NE(ExperimentDigest(e), ExperimentDigest(plain)) << line;
    return e;
  };
  EXPECT_EQ(plain.schedule.exit, ExitDraw::kMicroBatch);
  EXPECT_EQ(load("[schedule]", "exit = \"step\"").schedule.exit, ExitDraw::kStep);
  EXPECT_EQ(load("[inner]", "source = \"fresh_after\"").inner.source, InnerSource::kFreshAfter);
  EXPECT_EQ(load("[inner]", "source = \"paired\"").inner.source, InnerSource::kPaired);
  EXPECT_EQ(load("[inner]", "order = \"before\"").inner.order, InnerOrder::kBefore);
  EXPECT_EQ(load("[outer]", "max_staleness = 3").outer.max_staleness, 3);
  EXPECT_EQ(plain.data.prompt_order, PromptOrder::kRandom);
  EXPECT_EQ(load("[data]", "prompt_order = \"epochs\"").data.prompt_order, PromptOrder::kEpochs);
  EXPECT_EQ(load("[objective]", "weighting = \"paper\"\nweight_cap = 100").objective.weight_cap, 100);
  EXPECT_EQ(load("[objective]", "alignment = 0.03").objective.alignment, 0.03);
  EXPECT_EQ(load("[diversity]", "weight = 0.05\nnoise_bank = 0").diversity.noise_bank, 0);
  EXPECT_EQ(ExperimentDigest(Load(With("[schedule]", "exit = \"micro_batch\""))), ExperimentDigest(plain));
  EXPECT_THAT(ErrorOf(With("[model]", "guidance_low = 2")), HasSubstr("no model here is two experts"));
  EXPECT_THAT(ErrorOf(With("[schedule]", "exit = \"rank\"")), HasSubstr("one of: micro_batch, step"));
  EXPECT_THAT(ErrorOf(With("[objective]", "alignment = 1")), HasSubstr("allowed: [0, 1)"));
  EXPECT_THAT(ErrorOf(With("[outer]", "max_staleness = 17")), HasSubstr("allowed: [0, 16]"));
  EXPECT_THAT(ErrorOf(With("[inner]", "order = \"before\"\nsource = \"fresh_after\"")),
              HasSubstr("fresh ones are made before"));
  EXPECT_THAT(ErrorOf(With("[inner]", "order = \"before\"\nsource = \"paired\"")),
              HasSubstr("one pass of the network"));
  EXPECT_THAT(ErrorOf(With("[inner]", "updates = 2\nsource = \"paired\"")), HasSubstr("updates = 1"));
  EXPECT_EQ(load("[inner]", "source = \"replay\"\npace = \"free\"\nmax = 7").inner.max, 7);
  EXPECT_THAT(ErrorOf(With("[inner]", "pace = \"free\"")), HasSubstr("source = \"replay\""));
  EXPECT_THAT(ErrorOf(With("[inner]", "min = 5")), HasSubstr("\"min\" is above \"max\""));
  EXPECT_THAT(ErrorOf(With("[outer]", "land = 2")), HasSubstr("micro_batches 1"));
  EXPECT_THAT(ErrorOf(With("[data]", "micro_batches = 3") + "[outer]\nland = 2\n"),
              HasSubstr("\"pace\" is \"locked\""));
  EXPECT_THAT(ErrorOf(With("[objective]", "weight_cap = 2")), HasSubstr("\"weighting\" is not \"paper\""));
  EXPECT_THAT(ErrorOf(With("[objective]", "alignment = 0.03") + "[lora]\nrank = 4\n"),
              HasSubstr("adapters are trained"));
}

TEST_F(ExperimentFile, TheRolloutIsPartOfTheIdentity) {
  const Experiment plain = Load(kExperiment), renoised = Load(With("[schedule]", "rollout = \"renoise\""));
  EXPECT_EQ(plain.schedule.rollout, RolloutForm::kEuler);
  EXPECT_EQ(renoised.schedule.rollout, RolloutForm::kRenoise);
  EXPECT_NE(ExperimentDigest(renoised), ExperimentDigest(plain));
  EXPECT_EQ(ExperimentDigest(Load(With("[schedule]", "rollout = \"euler\""))), ExperimentDigest(plain));
  EXPECT_THAT(ErrorOf(With("[schedule]", "rollout = \"sde\"")), HasSubstr("one of: euler, renoise"));
}

TEST_F(ExperimentFile, ADecayOfTheLearningRateSaysWhereItEnds) {
  const auto with = [&](const std::string& lines) { return With("[optimizer.fake_score]", lines); };
  const OptimizerConfig o =
      Load(with("warmup_steps = 2\ndecay = \"cosine\"\ndecay_steps = 9\nfinal_fraction = 0.5")).optimizer.fake_score;
  EXPECT_EQ(o.decay, RateDecay::kCosine);
  EXPECT_EQ(o.decay_steps, 9);
  EXPECT_EQ(o.final_fraction, 0.5);
  EXPECT_THAT(ErrorOf(with("decay = \"linear\"")), AllOf(HasSubstr("\"decay_steps\" is 0"), HasSubstr("ends at 0")));
  EXPECT_THAT(ErrorOf(with("warmup_steps = 9\ndecay = \"linear\"\ndecay_steps = 9")),
              HasSubstr("the warm-up ends at 9"));
  EXPECT_THAT(ErrorOf(with("decay = \"step\"")), HasSubstr("one of: none, linear, cosine"));
  EXPECT_THAT(ErrorOf(with("final_fraction = 1.5")), HasSubstr("allowed: [0, 1]"));
}

TEST_F(ExperimentFile, StepsAndCheckpointsAreMultiplesOfTheUsesOfASample) {
  const std::string reuse = kExperiment + std::string("[outer]\nreuse = 4\n[checkpoint]\nevery = 8\n");
  EXPECT_EQ(Load(reuse).outer.reuse, 4);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = reuse;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_THAT(ErrorOf(with("steps = 4", "steps = 5")),
              HasSubstr("\"steps\" is 5, not a multiple of [outer] reuse = 4"));
  EXPECT_THAT(ErrorOf(with("every = 8", "every = 6")),
              HasSubstr("\"every\" is 6, not a multiple of [outer] reuse = 4"));
}

TEST_F(ExperimentFile, ResolvedExperimentReadsBackToTheSameIdentity) {
  const Experiment e = Load(With("[ema]", "decay = 0.1"));
  WriteFileAtomically(folder_ / "resolved.toml", ToToml(e));
  const Experiment again = LoadExperiment(folder_ / "resolved.toml");
  EXPECT_EQ(ToToml(again), ToToml(e));
  EXPECT_EQ(ExperimentDigest(again), ExperimentDigest(e));
}

TEST_F(ExperimentFile, ABankOfAnotherEncoderIsAnErrorWhereTheExperimentNamesOne) {
  const std::string ours(32, 'a'), theirs(32, 'b');
  WriteSafetensors(folder_ / "bank", {}, {{"sgmd.encoder", "umt5 " + theirs}});
  const std::string error = ErrorOf(With("[model]", "prompt_encoder = \"" + ours + "\""));
  EXPECT_THAT(error, HasSubstr("e.toml:5:18: the prompts were encoded by umt5 " + theirs + ", not by " + ours));
  EXPECT_THAT(error, HasSubstr("sgmd-encode"));
  EXPECT_THAT(ErrorOf(With("[model]", "prompt_encoder = \"b\"")), HasSubstr("not by b"))
      << "a part of a digest is not enough";

  const Experiment named = Load(With("[model]", "prompt_encoder = \"" + theirs + "\""));
  EXPECT_THAT(ToToml(named), HasSubstr(theirs));
  EXPECT_EQ(ExperimentDigest(named), ExperimentDigest(Load(kExperiment))) << "a check decides no weight";
}

TEST_F(ExperimentFile, DigestIgnoresLengthAndPlaceAndSeesWhatDecidesTheWeights) {
  const Experiment e = Load(kExperiment);
  const Digest digest = ExperimentDigest(e);
  Experiment same = e;
  same.name = "other";
  same.steps = 99;
  same.checkpoint.every = 7;
  EXPECT_EQ(ExperimentDigest(same), digest);
  const auto changed = [&](auto change) {
    Experiment copy = e;
    change(copy);
    return ExperimentDigest(copy) != digest;
  };
  EXPECT_TRUE(changed([](Experiment& x) { x.seed = 2; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.model.guidance = 3; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.objective.lambda = 0.2; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.threads.generator = 2; }));
  EXPECT_TRUE(changed([](Experiment& x) { x.optimizer.fake_score.beta2 = 0.9; }));
  WriteFileAtomically(folder_ / "model/m.safetensors", "other weights");
  EXPECT_NE(ExperimentDigest(e), digest);
}

TEST_F(ExperimentFile, StudentAndFakeScoreStartFromTheTeacherUnlessTheExperimentSays) {
  const Experiment alike = Load(kExperiment);
  for (const Role role : {Role::kGenerator, Role::kFakeScore, Role::kTeacher})
    EXPECT_EQ(ModelOf(alike, role), folder_ / "model");
  std::filesystem::copy(folder_ / "model", folder_ / "small");
  WriteFileAtomically(folder_ / "small/m.safetensors", "small weights");
  const Experiment e = Load(With("[model]", "student = \"small\""));
  EXPECT_EQ(ModelOf(e, Role::kGenerator), folder_ / "small");
  EXPECT_EQ(ModelOf(e, Role::kFakeScore), folder_ / "model");
  const Digest digest = ExperimentDigest(e);
  EXPECT_NE(digest, ExperimentDigest(alike));
  EXPECT_NE(digest, ExperimentDigest(Load(With("[model]", "fake_score = \"small\""))));
  WriteFileAtomically(folder_ / "resolved.toml", ToToml(e));
  EXPECT_EQ(ExperimentDigest(LoadExperiment(folder_ / "resolved.toml")), digest);
  WriteFileAtomically(folder_ / "small/m.safetensors", "other weights");
  EXPECT_NE(ExperimentDigest(e), digest);
  EXPECT_THAT(ErrorOf(With("[model]", "student = \"none\"")), HasSubstr("e.toml:5:11: no such model"));
}

TEST_F(ExperimentFile, AdaptersDefaultToTheRankAndReadBack) {
  EXPECT_EQ(Load(kExperiment).precision.compute, Compute::kFloat32);
  EXPECT_EQ(Load(kExperiment).lora.rank, 0);
  const Experiment e = Load(With("[lora]",
                                 "rank = 64\ntargets = [\"q\", \"ffn.2\"]\n[precision]\ncompute = \"bfloat16\"\n"
                                 "kernels = \"reference\""));
  EXPECT_EQ(e.lora.alpha, 64.0);
  WriteFileAtomically(folder_ / "resolved.toml", ToToml(e));
  const Experiment again = LoadExperiment(folder_ / "resolved.toml");
  EXPECT_EQ(again.lora.targets, (std::vector<std::string>{"q", "ffn.2"}));
  EXPECT_EQ(again.precision.compute, Compute::kBfloat16);
  EXPECT_EQ(again.precision.kernels, Kernels::kReference);
  EXPECT_NE(ExperimentDigest(again), ExperimentDigest(Load(kExperiment)));
  EXPECT_THAT(ErrorOf(With("[lora]", "targets = [\"q\", \"w\"]")), HasSubstr("each one of: q, k, v, o, ffn.0, ffn.2"));
  EXPECT_THAT(ErrorOf(With("[lora]", "rank = 4\ntargets = []")), HasSubstr("\"targets\" is empty"));
}

TEST_F(ExperimentFile, PathsMayBeginWithAnEnvironmentVariable) {
  const auto with_teacher = [](std::string path) {
    std::string text = kExperiment;
    return text.replace(text.find("\"model\""), 7, "\"" + path + "\"");
  };
  ::unsetenv("SGMD_TEST_MODELS");
  EXPECT_THAT(ErrorOf(with_teacher("$SGMD_TEST_MODELS/model")),
              HasSubstr("environment variable SGMD_TEST_MODELS is not set"));
  EXPECT_EQ(Load(with_teacher("${SGMD_TEST_MODELS:-model}")).model.teacher, folder_ / "model");
  EXPECT_THAT(ErrorOf(with_teacher("${SGMD_TEST_MODELS:-.}/none")),
              HasSubstr("the path is ${SGMD_TEST_MODELS:-.}/none"));
  ::setenv("SGMD_TEST_MODELS", folder_.path().c_str(), 1);
  EXPECT_EQ(Load(with_teacher("$SGMD_TEST_MODELS/model")).model.teacher, folder_ / "model");
  EXPECT_EQ(Load(with_teacher("${SGMD_TEST_MODELS:-elsewhere}/model")).model.teacher, folder_ / "model");
  EXPECT_THAT(ErrorOf(with_teacher("${SGMD_TEST_MODELS/model")), HasSubstr("names no variable"));
  ::unsetenv("SGMD_TEST_MODELS");
}

TEST_F(ExperimentFile, OverridesTakeThePlaceOfWhatTheFileSays) {
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  const auto with = [&](const TomlOverrides& overrides) {
    return LoadExperiment(folder_ / "e.toml", RequiredFiles::kAll, overrides);
  };
  const Experiment e = with({"experiment.steps=7", "optimizer.generator.beta1=0.5", "inner.source=fresh"});
  EXPECT_EQ(e.steps, 7);
  EXPECT_EQ(e.optimizer.generator.beta1, 0.5);
  EXPECT_EQ(e.inner.source, InnerSource::kFresh);
  const auto error_of = [&](const std::string& text) { return sgmd::ErrorOf([&] { with({text}); }); };
  EXPECT_THAT(error_of("experiment.steps=abc"), testing::StartsWith("--set experiment.steps=abc: "));
  EXPECT_THAT(error_of("experiment.stops=7"),
              AllOf(testing::StartsWith("--set experiment.stops=7: "), HasSubstr("did you mean \"steps\"?")));
  EXPECT_THAT(error_of("experiment.steps=0"), HasSubstr("allowed: [1"));
  EXPECT_THAT(error_of("steps"), HasSubstr("the form section.key=value"));
}

TEST_F(ExperimentFile, ResolvedNumbersAreAsShortAsTheyCanBe) {
  const std::string text = ToToml(Load(With("[objective]", "lambda = 0.1")));
  EXPECT_THAT(text, HasSubstr("lambda = 0.1\n"));
  EXPECT_THAT(text, HasSubstr("epsilon = 1e-08\n"));
}

TEST_F(ExperimentFile, PlanningNeedsTheModelsSizesAlone) {
  std::filesystem::remove(folder_ / "bank");
  std::filesystem::remove(folder_ / "model/m.safetensors");
  WriteFileAtomically(folder_ / "e.toml", kExperiment);
  EXPECT_THROW(LoadExperiment(folder_ / "e.toml"), Error);
  EXPECT_EQ(LoadExperiment(folder_ / "e.toml", RequiredFiles::kConfig).model.teacher, folder_ / "model");
  std::filesystem::remove(folder_ / "model/config.json");
  EXPECT_THROW(LoadExperiment(folder_ / "e.toml", RequiredFiles::kConfig), Error);
}

}  // namespace
}  // namespace sgmd
