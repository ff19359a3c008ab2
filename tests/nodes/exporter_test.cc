#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_store.h"
#include "nodes/exporter/export.h"
#include "nodes/exporter/model_card.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_config.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

template <typename Action>
std::string ErrorOf(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// A run as the launcher and the generator leave it: teacher, resolved experiment, checkpoints with raw and averaged
// weights.
class Exporter : public testing::Test {
 protected:
  Exporter() : teacher_(TinyWanConfig(2)) {
    teacher_.Initialise(1);
    fs::create_directories(folder_ / "teacher");
    teacher_.Save(folder_ / "teacher");
    WriteFileAtomically(folder_ / "bank", "bank");
    experiment_ = SaveRunIn(run());
    Checkpoint(20, 0.1, 0.2);
    Checkpoint(40, 0.3, 0.4);
  }

  // Its identity. `more` is appended to the experiment.
  Digest SaveRunIn(const fs::path& run, const std::string& more = "") const {
    WriteFileAtomically(folder_ / "e.toml", R"([experiment]
name = "tiny"
steps = 40
[model]
teacher = "teacher"
prompts = "bank"
guidance = 3
[data]
latent = [2, 4, 4, 4]
[optimizer.generator]
learning_rate = 1e-4
[optimizer.fake_score]
learning_rate = 1e-4
[ema]
decay = 0.9
)" + more);
    LaunchPlan plan;
    plan.experiment = LoadExperiment(folder_ / "e.toml");
    plan.topology.run_folder = run;
    ResolveDefaults(plan.topology);
    SaveRun(plan);
    return ExperimentDigest(plan.experiment);
  }

  fs::path run() const { return folder_ / "run"; }
  fs::path checkpoint(int step) const { return run() / StrCat("checkpoints/step-000000", step); }

  // Weights are the teacher's plus a number.
  NamedTensors Shifted(double by) const {
    NamedTensors tensors;
    for (const auto& [name, p] : teacher_.parameters()) tensors.emplace_back(name, p + by);
    return tensors;
  }
  void Checkpoint(std::int64_t step, double raw, std::optional<double> ema) {
    Checkpoint(CheckpointStore(run() / "checkpoints", experiment_), step, Shifted(raw),
               ema ? Shifted(*ema) : NamedTensors());
  }
  static void Checkpoint(const CheckpointStore& store, std::int64_t step, const NamedTensors& raw,
                         NamedTensors average) {
    const fs::path staged = store.Stage(step);
    std::map<std::string, Digest> files;
    SaveTensors(staged / "generator.model.safetensors", raw);
    if (!average.empty()) {
      average.emplace_back("ema.updates", at::full({1}, step, at::kLong));
      SaveTensors(staged / "generator.ema.safetensors", average);
    }
    for (const auto& name : NamesIn(staged)) files[name] = DigestFile(staged / name);
    store.Commit(step, files, 2);
  }
  void ExpectWeights(const fs::path& model, double shift, at::ScalarType through = at::kFloat) const {
    const WanTransformer loaded = WanTransformer::Load(model, at::kCPU);
    const NamedTensors expected = Shifted(shift);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(at::equal(loaded.parameters()[i].second, expected[i].second.to(through).to(at::kFloat)))
          << expected[i].first;
    }
  }
  fs::path ToDiffusers(const fs::path& source, WeightsChoice choice, ExportOptions options = {}) {
    options.overwrite = true;
    ExportDiffusers(OpenStudent(source, choice), options, folder_ / "out");
    return folder_ / "out";
  }

  TempFolder folder_;
  WanTransformer teacher_;
  Digest experiment_;
};

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
  EXPECT_THAT(ErrorOf([&] { OpenStudent(run(), WeightsChoice::kBest); }), HasSubstr("does not match the digest"));
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

TEST_F(Exporter, CardTellsTheRecipeTheSettingsAndTheFigures) {
  fs::create_directories(run() / "evaluation");
  WriteFileAtomically(
      run() / "evaluation/metrics.jsonl",
      "{\"step\":20,\"samples\":64,\"frechet_teacher\":9.5}\n{\"step\":40,\"samples\":64,\"frechet_teacher\":1.25}\n");
  const std::string card = ReadFile(ToDiffusers(run(), WeightsChoice::kBest) / "README.md");
  EXPECT_THAT(card, AllOf(HasSubstr("exponential moving average"), HasSubstr("| updates | 40 |"), HasSubstr("w = 3"),
                          HasSubstr("[objective]\nname = \"sgmd\"")));
  EXPECT_THAT(card, AllOf(HasSubstr("flow_shift=5, solver_order=1, disable_corrector=[0, 1, 2]"),
                          HasSubstr("\"denoising_step_list\": [1000, 750, 500, 250]"),
                          HasSubstr("sampler `euler`, scheduler `simple`, ModelSamplingSD3 shift 5, cfg 1.0"),
                          HasSubstr("[1, 0.9375, 0.833333, 0.625, 0]")));
  EXPECT_THAT(card, AllOf(HasSubstr("| frechet_teacher | 1.25 |"), Not(HasSubstr("9.5"))));
  EXPECT_THAT(card, AllOf(HasSubstr("Not in this folder:** [text_encoder, tokenizer, vae]"),
                          Not(HasSubstr(folder_.path().string()))));
  EXPECT_THAT(ReadFile(ToDiffusers(checkpoint(20), WeightsChoice::kRaw) / "README.md"),
              AllOf(HasSubstr("| frechet_teacher | 9.5 |"), HasSubstr("not averaged")));
}

TEST_F(Exporter, CardClaimsOnlyWhatTheFilesSay) {
  const auto card = [&](const fs::path& source) {
    return ModelCard(OpenStudent(source, WeightsChoice::kBest), ExportForm::kOriginal, "s", DType::kF32, {});
  };
  EXPECT_THAT(
      card(run()),
      HasSubstr("A 4-step text-to-video transformer of the Wan family, distilled by sgmd with the sgmd objective"));
  EXPECT_THAT(card(folder_ / "teacher"), AllOf(HasSubstr("do not say how it was made"), Not(HasSubstr("distilled"))));
}

TEST_F(Exporter, CardWarnsOfStepsThatOtherSchedulersDoNotMake) {
  StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
  EXPECT_TRUE(StudentSchedule::Of(student).IsEven());
  student.experiment->student_steps = {1000, 500, 250};
  EXPECT_FALSE(StudentSchedule::Of(student).IsEven());
  EXPECT_THAT(ModelCard(student, ExportForm::kOriginal, "s", DType::kF32, {}), HasSubstr("not evenly spaced"));
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

// The same of a run that trained adapters; those of the average are twice the raw ones.
class AdapterExporter : public Exporter {
 protected:
  AdapterExporter() {
    lora_.rank = 4;
    lora_.alpha = 10;
    lora_.targets = {"q", "ffn.2"};
    const Digest identity = SaveRunIn(adapted(), "[lora]\nrank = 4\nalpha = 10\ntargets = [\"q\", \"ffn.2\"]\n");
    const c10::NoGradGuard no_grad;
    const WanTransformer model = teacher_.WithAdapters(lora_, 3);
    for (const auto& [name, p] : model.adapters()) {
      p.add_(Noise(p.sizes(), SeedFor(2, 0, p.numel(), name)) * 0.2);
      raw_.emplace_back(name, p);
      average_.emplace_back(name, p * 2);
    }
    Checkpoint(CheckpointStore(adapted() / "checkpoints", identity), 7, raw_, average_);
  }
  fs::path adapted() const { return folder_ / "adapted"; }
  void ExpectMerged(const fs::path& model, const NamedTensors& adapters, at::ScalarType through = at::kFloat) const {
    WanTransformer merged = teacher_.Clone();
    MergeLora(merged, adapters, lora_.Scale());
    const WanTransformer loaded = WanTransformer::Load(model, at::kCPU);
    for (std::size_t i = 0; i < merged.parameters().size(); ++i) {
      const auto& [name, p] = merged.parameters()[i];
      EXPECT_TRUE(at::equal(loaded.parameters()[i].second, p.to(through).to(at::kFloat))) << name;
    }
  }

  LoraConfig lora_;
  NamedTensors raw_, average_;
};

TEST_F(AdapterExporter, ModelIsTheTeacherWithTheAdaptersMerged) {
  ExpectMerged(ToDiffusers(adapted(), WeightsChoice::kBest), average_);
  EXPECT_THAT(ReadFile(folder_ / "out/README.md"),
              HasSubstr("| base | teacher |\n| trained | LoRA of rank 4, alpha 10, on [q, ffn.2]; merged into these"));
  ExpectMerged(ToDiffusers(adapted() / "checkpoints/step-00000007", WeightsChoice::kRaw), raw_);
  ExportOptions options;
  options.dtype = DType::kBF16;
  options.shard_gib = 4096.0 / (1 << 30);
  ExpectMerged(ToDiffusers(adapted(), WeightsChoice::kBest, options), average_, at::kBFloat16);
  ExportOriginal(OpenStudent(adapted(), WeightsChoice::kBest), {}, folder_ / "single/s.safetensors");
  ExpectMerged(folder_ / "single", average_);
}

TEST_F(AdapterExporter, AdaptersAloneMergeIntoTheSameModel) {
  const fs::path file = folder_ / "loras/l.safetensors";
  const StudentSource student = OpenStudent(adapted(), WeightsChoice::kBest);
  ExportLora(student, {}, file);
  NamedTensors expected = LoraTensors(average_, lora_.Scale(), at::kFloat);
  const SafetensorsFile written = SafetensorsFile::Open(file);
  ASSERT_EQ(written.tensors().size(), expected.size());
  for (const auto& [name, tensor] : expected) EXPECT_TRUE(at::equal(CopyToTensor(written.At(name)), tensor)) << name;
  EXPECT_EQ(written.metadata().at("sgmd.weights"), "ema");
  EXPECT_EQ(written.metadata().at("sgmd.updates"), "7");
  EXPECT_EQ(NamesIn(file.parent_path()), (std::vector<std::string>{"README.md", "l.safetensors"}));
  EXPECT_THAT(ErrorOf([&] { ExportLora(student, {}, file); }), HasSubstr("already exists"));
  ExportOptions half;
  half.dtype = DType::kBF16;
  half.overwrite = true;
  ExportLora(OpenStudent(adapted(), WeightsChoice::kRaw), half, file);
  expected = LoraTensors(raw_, lora_.Scale(), at::kBFloat16);
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(at::equal(CopyToTensor(SafetensorsFile::Open(file).At(name)), tensor)) << name;
  }
}

TEST_F(AdapterExporter, CardOfAdaptersTellsTheStrengthAndWhereTheyGo) {
  ExportLora(OpenStudent(adapted(), WeightsChoice::kBest), {}, folder_ / "loras/l.safetensors");
  EXPECT_THAT(ReadFile(folder_ / "loras/README.md"),
              AllOf(HasSubstr("Adapters (LoRA) that make of their base a 4-step"), HasSubstr("| strength | 1.0"),
                    HasSubstr("pipe.load_lora_weights(\"<this folder>\", weight_name=\"l.safetensors\")"),
                    HasSubstr("\"lora_configs\": [{\"path\": \"l.safetensors\", \"strength\": 1.0}]"),
                    HasSubstr("`LoraLoaderModelOnly` after the base model, strength_model 1.0; steps 4"),
                    Not(HasSubstr("dit_original_ckpt"))));
}

TEST_F(AdapterExporter, SaysWhereThereAreNoAdapters) {
  const fs::path file = folder_ / "loras/l.safetensors";
  const auto refusal = [&](const fs::path& source) {
    return ErrorOf([&] { ExportLora(OpenStudent(source, WeightsChoice::kBest), {}, file); });
  };
  EXPECT_THAT(refusal(run()), HasSubstr("only runs with [lora] rank > 0 train adapters"));
  EXPECT_THAT(refusal(folder_ / "teacher"), HasSubstr("only runs with [lora] rank > 0"));
  fs::create_directories(adapted() / "student");
  teacher_.Save(adapted() / "student");
  EXPECT_THAT(refusal(adapted() / "student"), HasSubstr("merged into these weights: name the run or a checkpoint"));
  ExportOriginal(OpenStudent(adapted(), WeightsChoice::kBest), {}, folder_ / "loras/s.safetensors");
  EXPECT_THAT(refusal(adapted()), HasSubstr("a model's config.json"));
}

TEST_F(AdapterExporter, MergesOnlyIntoTheTeacherOfTheRun) {
  const auto merge = [&] { ToDiffusers(adapted(), WeightsChoice::kBest); };
  fs::create_directories(adapted() / "student");  // has the sizes once the teacher is gone
  teacher_.Save(adapted() / "student");
  WanTransformer other(TinyWanConfig(2));
  other.Initialise(2);
  other.Save(folder_ / "teacher");
  EXPECT_THAT(ErrorOf(merge), AllOf(HasSubstr("not trained on what is there now"), HasSubstr("--lora")));
  fs::remove_all(folder_ / "teacher");
  EXPECT_THAT(ErrorOf(merge), HasSubstr("the teacher that the adapters belong to is gone"));
  ExportLora(OpenStudent(adapted(), WeightsChoice::kBest), {}, folder_ / "loras/l.safetensors");
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
