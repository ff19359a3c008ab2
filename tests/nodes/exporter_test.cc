#include "tests/nodes/exporter_fixture.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "nodes/exporter/diffusers_scheduler.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST_F(Exporter, TakesTheAverageOfTheNewestCheckpoint) {
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kBest), 0.4);
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kEma), 0.4);
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kRaw), 0.3);
  ExpectWeights(ToDiffusers(checkpoint(20), WeightsChoice::kBest), 0.2);
  ExpectWeights(ToDiffusers(folder_ / "teacher", WeightsChoice::kBest), 0.0);
}

TEST_F(Exporter, SaysWhenTheWeightsAskedForAreNotThere) {
  Checkpoint(40, 0.5, {});
  EXPECT_THAT(ErrorOf([&] { OpenStudent(run(), WeightsChoice::kEma); }), HasSubstr("keeps no average"));
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kBest), 0.5);
  EXPECT_THAT(ErrorOf([&] { OpenStudent(folder_ / "teacher", WeightsChoice::kEma); }),
              HasSubstr("not said to be an average"));
  fs::remove_all(run() / "checkpoints");
  EXPECT_THAT(ErrorOf([&] { OpenStudent(run(), WeightsChoice::kBest); }), HasSubstr("no checkpoint yet"));
}

TEST_F(Exporter, DoesNotNeedTheTeacherAnyMore) {
  fs::create_directories(run() / "student");
  teacher_.Save(run() / "student");
  fs::remove_all(folder_ / "teacher");
  fs::remove(folder_ / "bank");
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kBest), 0.4);
  EXPECT_THAT(ReadFile(folder_ / "out/README.md"), HasSubstr("w = 3"));
  fs::remove_all(run() / "checkpoints");
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kBest), 0.0);
}

TEST_F(Exporter, RefusesADamagedCheckpoint) {
  std::fstream file(checkpoint(40) / "generator.ema.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end).put('x');
  file.close();
  EXPECT_THAT(ErrorOf([&] { OpenStudent(run(), WeightsChoice::kBest); }), HasSubstr("does not match its digest"));
}

TEST_F(Exporter, WritesShardsWithAnIndex) {
  ExportOptions options;
  options.shard_gib = 4096.0 / (1 << 30);
  const fs::path transformer = ToDiffusers(run(), WeightsChoice::kBest, options) / "transformer";
  const auto index = nlohmann::json::parse(ReadFile(transformer / "diffusion_pytorch_model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], teacher_.ParameterCount() * 4);
  EXPECT_EQ(index["weight_map"].size(), teacher_.parameters().size());
  EXPECT_TRUE(index["weight_map"].contains("blocks.1.attn2.to_out.0.weight"));
  for (const auto& entry : fs::directory_iterator(transformer)) {
    const bool shard = entry.path().extension() == ".safetensors";
    if (shard) {
      EXPECT_LE(fs::file_size(entry), 4096U + 8192U) << entry.path();
    }  // and its header
  }
  ExpectWeights(folder_ / "out", 0.4);
}

TEST_F(Exporter, RoundsToBfloat16) {
  ExportOptions options;
  options.dtype = DType::kBF16;
  ExpectWeights(ToDiffusers(run(), WeightsChoice::kBest, options), 0.4, at::kBFloat16);
  ExportOriginal(OpenStudent(run(), WeightsChoice::kRaw), options, folder_ / "single/student.safetensors");
  ExpectWeights(folder_ / "single/student.safetensors", 0.3, at::kBFloat16);
  EXPECT_EQ(SafetensorsFile::Open(folder_ / "single/student.safetensors").At("head.modulation").dtype, DType::kBF16);
}

TEST_F(Exporter, LinksOrCopiesThePartsOfTheBase) {
  for (const char* part : {"text_encoder", "tokenizer", "vae"}) {
    fs::create_directories(folder_ / "base" / part);
    WriteFileAtomically(folder_ / "base" / part / "config.json", part);
  }
  ExportOptions options;
  options.base = folder_ / "base";
  EXPECT_THAT(ErrorOf([&] { ToDiffusers(run(), WeightsChoice::kBest, options); }), HasSubstr("no model_index.json"));
  WriteFileAtomically(folder_ / "base/model_index.json", R"({"tokenizer": ["transformers", "Special"]})");
  fs::path out = ToDiffusers(run(), WeightsChoice::kBest, options);
  EXPECT_TRUE(fs::is_symlink(out / "vae"));
  EXPECT_EQ(ReadFile(out / "vae/config.json"), "vae");
  EXPECT_EQ(nlohmann::json::parse(ReadFile(out / "model_index.json"))["tokenizer"][1], "Special");
  EXPECT_THAT(ReadFile(out / "README.md"), Not(HasSubstr("Not in this folder")));
  const StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
  ExportOptions itself = options;
  itself.base = out;
  itself.overwrite = true;
  EXPECT_THAT(ErrorOf([&] { ExportDiffusers(student, itself, out); }), HasSubstr("the base is the folder"));
  options.copy_base = true;
  out = ToDiffusers(run(), WeightsChoice::kBest, options);
  EXPECT_FALSE(fs::is_symlink(out / "vae"));
  EXPECT_EQ(ReadFile(out / "text_encoder/config.json"), "text_encoder");
  fs::remove_all(folder_ / "base/vae");
  EXPECT_THAT(ErrorOf([&] { ToDiffusers(run(), WeightsChoice::kBest, options); }), HasSubstr("the base has no vae/"));
}

StudentSchedule Renoising(std::vector<std::int64_t> steps, double shift) {
  return {std::move(steps), shift, RolloutForm::kRenoise};
}

// As FlowMatchEulerDiscreteScheduler.set_timesteps makes them.
std::vector<double> SigmasOf(const FlowMatchGrid& grid, std::size_t n) {
  const double last = Shift(0.001, grid.shift);
  std::vector<double> sigmas;
  for (std::size_t i = 0; i < n; ++i) {
    const double u = 1 - (1 - last) * static_cast<double>(i) / static_cast<double>(n - 1);
    sigmas.push_back(Shift(u, grid.shift));
  }
  const double scale = (1 - sigmas.back()) / (1 - grid.shift_terminal);
  for (double& sigma : sigmas) sigma = 1 - (1 - sigma) / scale;
  return sigmas;
}

TEST(FlowMatchGrid, MakesTheGridsOfStudentsThatAreEvenlySpacedOrShort) {
  for (const StudentSchedule& schedule :
       {Renoising({1000, 750, 500, 250}, 5), Renoising({1000, 750, 500, 250}, 8), Renoising({1000, 280, 120}, 8),
        Renoising({1000, 500}, 3), Renoising({1000, 875, 750, 625, 500, 375, 250, 125}, 1)}) {
    const auto grid = FlowMatchGridOf(schedule);
    ASSERT_TRUE(grid) << schedule.steps.size();
    const std::vector<double> found = SigmasOf(*grid, schedule.steps.size()),
                              expected = StudentSigmas(schedule.steps, schedule.shift);
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-4) << i;
  }
  EXPECT_FALSE(FlowMatchGridOf(Renoising({1000, 900, 500, 250}, 5)));
  EXPECT_FALSE(FlowMatchGridOf(Renoising({900, 500}, 5))) << "it begins at sigma 1";
}

TEST_F(Exporter, WritesASchedulerThatGivesAStudentNewNoiseWhereItWasTrainedSo) {
  SaveRunIn(run(), "[schedule]\nrollout = \"renoise\"\n");
  ExportOptions options;
  options.overwrite = true;
  StudentSource student = OpenStudent(folder_ / "teacher", WeightsChoice::kBest);
  student.experiment = LoadExperiment(folder_ / "e.toml");
  ExportDiffusers(student, options, folder_ / "out");
  const auto json = [&](const char* file) { return nlohmann::json::parse(ReadFile(folder_ / "out" / file)); };
  EXPECT_EQ(json("model_index.json")["scheduler"][1], "FlowMatchEulerDiscreteScheduler");
  const auto scheduler = json("scheduler/scheduler_config.json");
  EXPECT_EQ(scheduler["_class_name"], "FlowMatchEulerDiscreteScheduler");
  EXPECT_EQ(scheduler["stochastic_sampling"], true);
  EXPECT_EQ(scheduler["shift_terminal"], 0.625);
  EXPECT_NEAR(scheduler["shift"].get<double>(), 2.5, 0.02);
  EXPECT_THAT(ReadFile(folder_ / "out/README.md"),
              AllOf(HasSubstr("It makes these sigmas."), HasSubstr("torch.manual_seed"), HasSubstr("--rollout renoise"),
                    HasSubstr("with new noise e"), Not(HasSubstr("UniPC"))));
}

TEST_F(Exporter, ReplacesOnlyWhatIsAnExport) {
  const StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
  ExportDiffusers(student, {}, folder_ / "new");
  EXPECT_THAT(ErrorOf([&] { ExportDiffusers(student, {}, folder_ / "new"); }),
              AllOf(HasSubstr("already exists"), HasSubstr("--overwrite")));
  ExportOptions overwrite;
  overwrite.overwrite = true;
  ExportDiffusers(student, overwrite, folder_ / "new/");
  EXPECT_THAT(ErrorOf([&] { ExportDiffusers(student, overwrite, run()); }), HasSubstr("not a Diffusers folder"));
  ExportOriginal(student, {}, folder_ / "single/a.safetensors");
  EXPECT_THAT(ErrorOf([&] { ExportOriginal(student, {}, folder_ / "single/a.safetensors"); }),
              HasSubstr("already exists"));
  ExportOriginal(student, {}, folder_ / "single/b.safetensors");  // the same sizes: one config.json serves both
  WriteFileAtomically(folder_ / "single/config.json", "{}");
  EXPECT_THAT(ErrorOf([&] { ExportOriginal(student, {}, folder_ / "single/c.safetensors"); }),
              HasSubstr("config.json of another model"));
  EXPECT_THAT(NamesIn(folder_ / "single"),
              testing::ElementsAre("README.md", "a.safetensors", "b.safetensors", "config.json"));
}

TEST_F(Exporter, LeavesNothingWhereAFileCannotBeWrittenWhole) {
  const StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{8192, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string folder = ErrorOf([&] { ExportDiffusers(student, {}, folder_ / "full/out"); });
  const std::string file = ErrorOf([&] { ExportOriginal(student, {}, folder_ / "full/student.safetensors"); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(folder, HasSubstr("cannot write"));
  EXPECT_THAT(file, HasSubstr("cannot write"));
  EXPECT_TRUE(NamesIn(folder_ / "full").empty()) << NamesIn(folder_ / "full").front();
}

// A disk that is really full: a small tmpfs, where the machine lets us mount one.
TEST_F(Exporter, KeepsTheEarlierExportWhenTheDiskIsFull) {
  fs::create_directory(folder_ / "disk");
  const std::string disk = (folder_ / "disk").string(), listing = (folder_ / "listing").string(),
                    errors = (folder_ / "errors").string();
  const auto in_small_disk = [&](const std::string& command) {
    return std::system(
        StrCat("unshare -m sh -c 'mount -t tmpfs -o size=96k none ", disk, " && ", command, "' 2>>", errors).c_str());
  };
  if (in_small_disk("true") != 0) GTEST_SKIP() << "no mount namespace here";
  const std::string program = SGMD_BIN_DIR "/sgmd-export " + run().string();
  ASSERT_EQ(in_small_disk(StrCat(program, " --raw --original ", disk, "/s.safetensors --dtype bfloat16 && cp ", disk,
                                 "/s.safetensors ", disk, "/before && dd if=/dev/zero of=", disk, "/ballast bs=1k; ",
                                 program, " --overwrite --original ", disk, "/s.safetensors; test $? = 1 && cmp ", disk,
                                 "/s.safetensors ", disk, "/before && ls -A ", disk, " >", listing)),
            0)
      << ReadFile(errors);
  EXPECT_EQ(ReadFile(listing), "README.md\nballast\nbefore\nconfig.json\ns.safetensors\n");
  EXPECT_THAT(ReadFile(errors), HasSubstr("No space left on device"));
}

TEST(ExportProgram, SaysWhatItNeeds) {
  TempFolder folder;
  const std::string errors = (folder / "errors").string();
  EXPECT_NE(std::system(StrCat(SGMD_BIN_DIR "/sgmd-export ", folder.path().string(), " 2>", errors).c_str()), 0);
  EXPECT_THAT(ReadFile(errors),
              HasSubstr("--diffusers <folder>, --original <file.safetensors> or --lora <file.safetensors>"));
  EXPECT_NE(
      std::system(
          StrCat(SGMD_BIN_DIR "/sgmd-export ", folder.path().string(), " --ema --raw --original x 2>", errors).c_str()),
      0);
  EXPECT_THAT(ReadFile(errors), HasSubstr("excludes"));
}

}  // namespace
}  // namespace sgmd
