// Students of two experts: a file or folder of each, completed where one of them was not trained.
#include <gmock/gmock.h>

#include "common/storage/model_folder.h"
#include "tests/nodes/exporter_fixture.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kHighOnly[] = "[schedule]\nexperts = \"high_noise\"\n";

// A run of a model of two experts, of which checkpoints hold what is trained: those of the model plus a number, or
// adapters.
class ExpertExporter : public Exporter {
 protected:
  ExpertExporter() : high_(TinyWanConfig(2)), low_(TinyWanConfig(2)) {
    high_.Initialise(11);
    low_.Initialise(12);
    SaveModel(folder_ / "two", high_, low_);
  }
  static void SaveModel(const fs::path& folder, const WanTransformer& high, const WanTransformer& low) {
    for (const char* part : {kHighNoiseExpert, kLowNoiseExpert}) fs::create_directories(folder / part);
    high.Save(folder / kHighNoiseExpert);
    low.Save(folder / kLowNoiseExpert);
  }
  static NamedTensors Plus(const NamedTensors& tensors, double by) {
    NamedTensors sums;
    for (const auto& [name, p] : tensors) sums.emplace_back(name, p + by);
    return sums;
  }
  static void Append(const std::string& expert, const NamedTensors& tensors, NamedTensors& all) {
    for (const auto& [name, tensor] : tensors) all.emplace_back(expert + "." + name, tensor);
  }
  // What the generator commits of these experts; averages of weights are theirs plus 1.
  void Commit(const fs::path& run, const Digest& identity, const NamedTensors& raw) {
    NamedTensors average = Plus(raw, 1);
    for (const char* expert : {kHighNoiseExpert, kLowNoiseExpert})
      average.emplace_back(StrCat(expert, ".ema.updates"), at::full({1}, 7, at::kLong));
    const CheckpointStore store(run / "checkpoints", identity);
    const fs::path staged = store.Stage(7);
    SaveTensors(staged / "generator.model.safetensors", raw);
    SaveTensors(staged / "generator.ema.safetensors", average);
    std::map<std::string, Digest> files;
    for (const auto& name : NamesIn(staged)) files[name] = DigestFile(staged / name);
    store.Commit(7, files, 2);
  }
  // Trained: high by 0.1, low by 0.2. `more` is appended to the experiment.
  fs::path TrainBoth(const std::string& more = "") {
    NamedTensors raw;
    Append(kHighNoiseExpert, Plus(high_.parameters(), 0.1), raw);
    Append(kLowNoiseExpert, Plus(low_.parameters(), 0.2), raw);
    Commit(folder_ / "both", SaveRunIn(folder_ / "both", more, "two"), raw);
    return folder_ / "both";
  }
  fs::path TrainHigh() {
    NamedTensors raw;
    Append(kHighNoiseExpert, Plus(high_.parameters(), 0.1), raw);
    Commit(folder_ / "high", SaveRunIn(folder_ / "high", kHighOnly, "two"), raw);
    return folder_ / "high";
  }
  static void Expect(const fs::path& model, const NamedTensors& expected) {
    const WanTransformer loaded = WanTransformer::Load(model, at::kCPU);
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_TRUE(at::equal(loaded.parameters()[i].second, expected[i].second)) << expected[i].first;
  }
  static NamedTensors TwiceIn(const NamedTensors& tensors, double first, double second) {
    return Plus(Plus(tensors, first), second);  // rounded as the checkpoint was
  }
  static Metadata MetadataOf(const fs::path& transformer) {
    return SafetensorsFile::Open(transformer / "diffusion_pytorch_model.safetensors").metadata();
  }

  WanTransformer high_, low_;
};

TEST_F(ExpertExporter, APipelineHasBothAndTheirBoundary) {
  const fs::path out = ToDiffusers(TrainBoth(), WeightsChoice::kBest);
  Expect(out / "transformer", TwiceIn(high_.parameters(), 0.1, 1));
  Expect(out / "transformer_2", TwiceIn(low_.parameters(), 0.2, 1));
  const auto index = nlohmann::json::parse(ReadFile(out / "model_index.json"));
  EXPECT_EQ(index["boundary_ratio"], 0.875);
  EXPECT_EQ(index["transformer"], (nlohmann::json{"diffusers", "WanTransformer3DModel"}));
  EXPECT_EQ(index["transformer_2"], index["transformer"]);
  EXPECT_EQ(FindExperts(out)[0].min_sigma, 0.875);
  ToDiffusers(folder_ / "both", WeightsChoice::kRaw);
  Expect(out / "transformer", Plus(high_.parameters(), 0.1));
  Expect(out / "transformer_2", Plus(low_.parameters(), 0.2));
  for (const char* part : {"transformer", "transformer_2"}) {
    EXPECT_EQ(MetadataOf(out / part).at("sgmd.weights"), "raw") << part;
    EXPECT_EQ(MetadataOf(out / part).at("sgmd.updates"), "7") << part;
  }
}

TEST_F(ExpertExporter, TakesTheBoundaryOfTheExperiment) {
  NamedTensors raw;
  Append(kHighNoiseExpert, high_.parameters(), raw);
  Append(kLowNoiseExpert, low_.parameters(), raw);
  Commit(folder_ / "moved", SaveRunIn(folder_ / "moved", "", "two\"\nboundary = 0.9\nstudent = \"two"), raw);
  const fs::path out = ToDiffusers(folder_ / "moved", WeightsChoice::kRaw);
  EXPECT_EQ(nlohmann::json::parse(ReadFile(out / "model_index.json"))["boundary_ratio"], 0.9);
}

TEST_F(ExpertExporter, APipelineTakesWhatWasNotTrainedFromTheModelItStartedFrom) {
  const fs::path out = ToDiffusers(TrainHigh(), WeightsChoice::kRaw);
  Expect(out / "transformer", Plus(high_.parameters(), 0.1));
  Expect(out / "transformer_2", low_.parameters());
  EXPECT_EQ(MetadataOf(out / "transformer").at("sgmd.updates"), "7");
  EXPECT_FALSE(MetadataOf(out / "transformer_2").contains("sgmd.updates"));
  EXPECT_THAT(ReadFile(out / "README.md"), HasSubstr("of the base as it is, not trained"));
}

TEST_F(ExpertExporter, WritesAnOriginalFileOfEachExpertThatWasTrained) {
  const fs::path both = folder_ / "files/student.safetensors", high = folder_ / "one/student.safetensors";
  EXPECT_THAT(
      ExportOriginal(OpenStudent(TrainBoth(), WeightsChoice::kRaw), {}, both),
      ElementsAre(folder_ / "files/student_high_noise.safetensors", folder_ / "files/student_low_noise.safetensors"));
  EXPECT_THAT(NamesIn(both.parent_path()), ElementsAre("README.md", "config.json", "student_high_noise.safetensors",
                                                       "student_low_noise.safetensors"));
  Expect(folder_ / "files/student_high_noise.safetensors", Plus(high_.parameters(), 0.1));
  Expect(folder_ / "files/student_low_noise.safetensors", Plus(low_.parameters(), 0.2));
  ExportOriginal(OpenStudent(TrainHigh(), WeightsChoice::kRaw), {}, high);
  EXPECT_THAT(NamesIn(high.parent_path()), ElementsAre("README.md", "config.json", "student_high_noise.safetensors"));
}

TEST_F(ExpertExporter, ReadsAModelOfTwoExpertsAndTheStudentFolderOfARun) {
  Expect(ToDiffusers(folder_ / "two", WeightsChoice::kBest) / "transformer_2", low_.parameters());
  const fs::path run = TrainHigh();
  fs::create_directories(run / "student" / kHighNoiseExpert);
  teacher_.Save(run / "student" / kHighNoiseExpert, {{"sgmd.weights", "ema"}, {"sgmd.updates", "40"}});
  fs::create_directory_symlink(folder_ / "two" / kLowNoiseExpert, run / "student" / kLowNoiseExpert);
  const StudentSource student = OpenStudent(run / "student", WeightsChoice::kEma);
  EXPECT_EQ(student.step, 40);
  EXPECT_EQ(student.boundary, 0.875);
  EXPECT_EQ(student.Trained().size(), 1U);
  const fs::path out = ToDiffusers(run / "student", WeightsChoice::kBest);
  Expect(out / "transformer", teacher_.parameters());
  Expect(out / "transformer_2", low_.parameters());
  EXPECT_THAT(ErrorOf([&] { OpenStudent(run / "student" / kHighNoiseExpert, WeightsChoice::kBest); }),
              HasSubstr("one of two experts"));
}

TEST_F(ExpertExporter, DoesNotNeedTheModelThatItStartedFromWhereAllWasTrained) {
  const fs::path run = TrainBoth();
  SaveModel(run / "student", high_, low_);  // has the sizes
  fs::remove_all(folder_ / "two");
  fs::remove(folder_ / "bank");
  Expect(ToDiffusers(run, WeightsChoice::kRaw) / "transformer_2", Plus(low_.parameters(), 0.2));
}

TEST_F(ExpertExporter, SaysWhatIsMissingToCompleteAPipeline) {
  const fs::path run = TrainHigh();
  fs::create_directories(run / "student" / kHighNoiseExpert);
  high_.Save(run / "student" / kHighNoiseExpert);
  low_.Initialise(13);
  low_.Save(folder_ / "two" / kLowNoiseExpert);
  const auto complete = [&] { ToDiffusers(run, WeightsChoice::kRaw); };
  EXPECT_THAT(ErrorOf(complete), AllOf(HasSubstr("not the one that is there now"), HasSubstr("--original")));
  fs::remove_all(folder_ / "two");
  EXPECT_THAT(ErrorOf(complete), HasSubstr("the model with the expert that was not trained is gone"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  ExportOriginal(OpenStudent(run, WeightsChoice::kRaw), {}, folder_ / "one/s.safetensors");
}

TEST_F(ExpertExporter, WritesNoExpertWhereTheOtherDoesNotFit) {
  NamedTensors raw;
  Append(kHighNoiseExpert, high_.parameters(), raw);
  Append(kLowNoiseExpert, low_.parameters(), raw);
  raw.pop_back();
  Commit(folder_ / "torn", SaveRunIn(folder_ / "torn", "", "two"), raw);
  const StudentSource student = OpenStudent(folder_ / "torn", WeightsChoice::kRaw);
  EXPECT_THAT(ErrorOf([&] { ExportOriginal(student, {}, folder_ / "torn/out/s.safetensors"); }),
              HasSubstr("missing: " + low_.parameters().back().first));
  EXPECT_THAT(ErrorOf([&] { ExportDiffusers(student, {}, folder_ / "torn/out"); }), HasSubstr("missing: "));
  EXPECT_FALSE(fs::exists(folder_ / "torn/out"));
  fs::create_directories(folder_ / "files");
  WriteFileAtomically(folder_ / "files/s_low_noise.safetensors", "of another");
  const StudentSource whole = OpenStudent(TrainBoth(), WeightsChoice::kRaw);
  EXPECT_THAT(ErrorOf([&] { ExportOriginal(whole, {}, folder_ / "files/s.safetensors"); }),
              AllOf(HasSubstr("already exists"), HasSubstr("s_low_noise.safetensors")));
  EXPECT_THAT(NamesIn(folder_ / "files"), ElementsAre("s_low_noise.safetensors"));
}

TEST_F(ExpertExporter, RefusesExpertsOfOtherSizes) {
  WanTransformer larger(TinyWanConfig(3));
  larger.Save(folder_ / "two" / kLowNoiseExpert);
  EXPECT_THAT(ErrorOf([&] { OpenStudent(folder_ / "two", WeightsChoice::kBest); }),
              HasSubstr("the two experts have other sizes than each other"));
}

// Adapters of each are the other's times three.
class ExpertAdapters : public ExpertExporter {
 protected:
  static constexpr char kLora[] = "[lora]\nrank = 4\nalpha = 10\ntargets = [\"q\", \"ffn.2\"]\n";
  const LoraConfig lora_{4, 10, {"q", "ffn.2"}};

  NamedTensors Adapters(const std::string& expert) const {
    const c10::NoGradGuard no_grad;
    NamedTensors adapters;
    const WanTransformer model = teacher_.WithAdapters(lora_, 3);
    for (const auto& [name, p] : model.adapters()) {
      const at::Tensor drawn = Noise(p.sizes(), SeedFor(2, 0, p.numel(), name)) * 0.2;
      adapters.emplace_back(name, expert == kHighNoiseExpert ? drawn : drawn * 3);
    }
    return adapters;
  }
  fs::path Train(const std::string& name, const std::vector<const char*>& experts, const std::string& more) {
    NamedTensors raw;
    for (const char* expert : experts) Append(expert, Adapters(expert), raw);
    Commit(folder_ / name, SaveRunIn(folder_ / name, kLora + more, "two"), raw);
    return folder_ / name;
  }
  void ExpectMerged(const fs::path& model, const WanTransformer& base, const std::string& expert) const {
    WanTransformer merged = base.Clone();
    MergeLora(merged, Adapters(expert), lora_.Scale());
    Expect(model, merged.parameters());
  }
  void ExpectAdapters(const fs::path& file, const std::string& expert) const {
    const SafetensorsFile written = SafetensorsFile::Open(file);
    const NamedTensors expected = LoraTensors(Adapters(expert), lora_.Scale(), at::kFloat);
    ASSERT_EQ(written.tensors().size(), expected.size());
    for (const auto& [name, tensor] : expected) EXPECT_TRUE(at::equal(CopyToTensor(written.At(name)), tensor)) << name;
  }
};

TEST_F(ExpertAdapters, AreMergedIntoTheExpertThatTheyAreOf) {
  const fs::path run = Train("both", {kHighNoiseExpert, kLowNoiseExpert}, "");
  const fs::path out = ToDiffusers(run, WeightsChoice::kRaw);
  ExpectMerged(out / "transformer", high_, kHighNoiseExpert);
  ExpectMerged(out / "transformer_2", low_, kLowNoiseExpert);
  ToDiffusers(Train("low", {kLowNoiseExpert}, "[schedule]\nexperts = \"low_noise\"\n"), WeightsChoice::kRaw);
  Expect(out / "transformer", high_.parameters());
  ExpectMerged(out / "transformer_2", low_, kLowNoiseExpert);
}

TEST_F(ExpertAdapters, AreAFileOfEachExpert) {
  const StudentSource student =
      OpenStudent(Train("both", {kHighNoiseExpert, kLowNoiseExpert}, ""), WeightsChoice::kRaw);
  ExportLora(student, {}, folder_ / "loras/l.safetensors");
  EXPECT_THAT(NamesIn(folder_ / "loras"),
              ElementsAre("README.md", "l_high_noise.safetensors", "l_low_noise.safetensors"));
  ExpectAdapters(folder_ / "loras/l_high_noise.safetensors", kHighNoiseExpert);
  ExpectAdapters(folder_ / "loras/l_low_noise.safetensors", kLowNoiseExpert);
  ExportLora(OpenStudent(Train("high", {kHighNoiseExpert}, kHighOnly), WeightsChoice::kRaw), {},
             folder_ / "one/l.safetensors");
  EXPECT_THAT(NamesIn(folder_ / "one"), ElementsAre("README.md", "l_high_noise.safetensors"));
}

// Cards of a student with the sizes of Wan2.2-A14B.
class ExpertCard : public ExpertAdapters {
 protected:
  std::string Card(const fs::path& run, ExportForm form, const std::string& name) {
    StudentSource student = OpenStudent(run, WeightsChoice::kRaw);
    student.config = WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/Wan2.1-T2V-14B/config.json");
    return ModelCard(student, form, name, DType::kBF16, {});
  }
};

TEST_F(ExpertCard, TellsWhichStepsAreWhose) {
  const std::string card = Card(TrainBoth(), ExportForm::kDiffusers, "student");
  EXPECT_THAT(card, AllOf(HasSubstr("license: apache-2.0\nbase_model: Wan-AI/Wan2.2-T2V-A14B"),
                          HasSubstr("| high-noise expert | for noise levels from the boundary 0.875 on; trained |"),
                          HasSubstr("the high-noise expert takes the steps at timestep [1000, 937.5], the low-noise "
                                    "expert the steps at timestep [833.3, 625]")));
  EXPECT_THAT(card, AllOf(HasSubstr("`boundary_ratio` 0.875; `num_inference_steps=4"),
                          HasSubstr("sgmd-sample --model student --student-steps 1000 750 500 250 --shift 5`")));
}

TEST_F(ExpertCard, TellsOfFilesHowEachToolSwitchesFromOneToTheOther) {
  EXPECT_THAT(Card(TrainBoth(), ExportForm::kOriginal, "s.safetensors"),
              AllOf(HasSubstr("--model_cls wan2.2_moe_distill"), HasSubstr("\"boundary_step_index\": 2"),
                    HasSubstr("\"high_noise_original_ckpt\": \"s_high_noise.safetensors\", "
                              "\"low_noise_original_ckpt\": \"s_low_noise.safetensors\""),
                    HasSubstr("`s_high_noise.safetensors` and `s_low_noise.safetensors` in `models/diffusion_models`"),
                    HasSubstr("start_at_step 0, end_at_step 2, return_with_leftover_noise `enable`"),
                    HasSubstr("add_noise `disable`, start_at_step 2, end_at_step 10000"), HasSubstr("--boundary 0.875"),
                    Not(HasSubstr("dit_original_ckpt"))));
  EXPECT_THAT(Card(TrainHigh(), ExportForm::kOriginal, "s.safetensors"),
              AllOf(HasSubstr("`\"high_noise_original_ckpt\": \"s_high_noise.safetensors\"`"),
                    Not(HasSubstr("s_low_noise")), HasSubstr("of the base as it is, not trained")));
}

TEST_F(ExpertCard, TellsOfAdaptersWhichExpertEachFileIsFor) {
  const std::string card =
      Card(Train("both", {kHighNoiseExpert, kLowNoiseExpert}, ""), ExportForm::kLora, "l.safetensors");
  EXPECT_THAT(card, AllOf(HasSubstr("{\"name\": \"high_noise_model\", \"path\": \"l_high_noise.safetensors\""),
                          HasSubstr("{\"name\": \"low_noise_model\", \"path\": \"l_low_noise.safetensors\""),
                          HasSubstr("its file by `LoraLoaderModelOnly` with strength_model 1.0")));
  EXPECT_THAT(card, AllOf(HasSubstr("weight_name=\"l_high_noise.safetensors\")\n"),
                          HasSubstr("weight_name=\"l_low_noise.safetensors\", load_into_transformer_2=True)\n")));
}

TEST(StudentSchedule, KnowsWhereRoundedTimestepsSplitElsewhere) {
  const StudentSchedule schedule;
  EXPECT_EQ(schedule.StepsFrom(0.875), 2U);
  EXPECT_EQ(schedule.StepsFrom(0.9375), 2U);
  EXPECT_EQ(schedule.StepsFrom(0.5), 4U);
  EXPECT_TRUE(schedule.SplitsInDiffusersAt(0.875));
  EXPECT_FALSE(schedule.SplitsInDiffusersAt(0.9375)) << "its second timestep is 937";
}

}  // namespace
}  // namespace sgmd
