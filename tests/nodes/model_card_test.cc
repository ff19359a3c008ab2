// What the card of an exported student says.
#include "tests/nodes/exporter_fixture.h"

#include <gmock/gmock.h>

#include "pipeline/data/prompt_bank.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST_F(Exporter, CardTellsTheRecipeTheSettingsAndTheFigures) {
  fs::create_directories(run() / "evaluation");
  WriteFileAtomically(
      run() / "evaluation/metrics.jsonl",
      "{\"step\":20,\"samples\":64,\"frechet_teacher\":9.5}\n{\"step\":40,\"samples\":64,\"frechet_teacher\":1.25,"
      "\"frechet_teacher_low\":1.1,\"frechet_teacher_high\":1.5}\n");
  const std::string card = ReadFile(ToDiffusers(run(), WeightsChoice::kBest) / "README.md");
  EXPECT_THAT(card, AllOf(HasSubstr("exponential moving average"), HasSubstr("| updates | 40 |"), HasSubstr("w = 3"),
                          HasSubstr("[objective]\nname = \"sgmd\"")));
  EXPECT_THAT(card, AllOf(HasSubstr("flow_shift=5, solver_order=1, disable_corrector=[0, 1, 2]"),
                          HasSubstr("--student-steps 1000 750 500 250 --shift 5"),
                          HasSubstr("[1, 0.9375, 0.833333, 0.625, 0]")));
  EXPECT_THAT(card, AllOf(HasSubstr("| frechet_teacher | 1.25 [1.1, 1.5] |"), Not(HasSubstr("9.5"))));
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

// TI2V-5B makes videos either way.
TEST_F(Exporter, CardNamesTheTaskOfThePromptsThatTheStudentWasTrainedOn) {
  WanConfig config = teacher_.config();
  config.model_type = "ti2v";
  fs::create_directories(folder_ / "ti2v");
  WanTransformer(config).Save(folder_ / "ti2v");
  SaveRunIn(run(), "", "ti2v");
  const auto card = [&](const std::vector<std::string>& images) {
    const at::Tensor row = at::zeros({1, config.text_dim}), picture = at::zeros({2, 1, 4, 4});
    std::vector<TensorView> tensors{ViewOf(DigestText("a prompt").Hex(), row), ViewOf(DigestText("").Hex(), row)};
    if (!images.empty()) tensors.push_back(ViewOf(ImageTensor(images.front()), picture));
    WritePromptBank(folder_ / "bank", tensors, {"a prompt"}, "",
                    {{kPromptEncoderKey, "words"}, {kImageEncoderKey, "none"}}, images);
    return ModelCard(OpenStudent(run(), WeightsChoice::kBest), ExportForm::kDiffusers, "s", DType::kF32, {});
  };
  EXPECT_THAT(card({}), AllOf(HasSubstr("pipeline_tag: text-to-video"), HasSubstr("import WanPipeline"),
                              HasSubstr("prompts had no first frames was not trained for that")));
  EXPECT_THAT(card({DigestText("a picture").Hex()}),
              AllOf(HasSubstr("pipeline_tag: image-to-video"), HasSubstr("import WanImageToVideoPipeline"),
                    HasSubstr("pipe(image, prompt"), HasSubstr("from a prompt alone, which this student was not")));
}

TEST_F(Exporter, CardNamesOnlyToolsThatCanRunTheModel) {
  const auto card = [&](const WanConfig& config, ExportForm form, const std::string& teacher) {
    StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
    student.config = config;
    student.experiment->model.teacher = teacher;
    return ModelCard(student, form, "s", DType::kF32, {});
  };
  WanConfig wan = WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/Wan2.1-T2V-1.3B/config.json");
  EXPECT_THAT(card(wan, ExportForm::kOriginal, "teacher"),
              AllOf(HasSubstr("license: apache-2.0\nbase_model: Wan-AI/Wan2.1-T2V-1.3B-Diffusers\n"
                              "base_model_relation: finetune\n"),
                    HasSubstr("\"denoising_step_list\": [1000, 750, 500, 250]"),
                    HasSubstr("sampler `euler`, scheduler `simple`, ModelSamplingSD3 shift 5, cfg 1.0"),
                    HasSubstr("library_name: diffusers")));
  wan = WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/Wan2.1-T2V-14B/config.json");
  EXPECT_THAT(card(wan, ExportForm::kLora, "Wan2.1-T2V-14B"),
              AllOf(HasSubstr("base_model: Wan-AI/Wan2.1-T2V-14B-Diffusers\nbase_model_relation: adapter\n"),
                    HasSubstr("LoraLoaderModelOnly")));
  EXPECT_THAT(card(wan, ExportForm::kOriginal, "models/Wan2.2-T2V-A14B/high"), HasSubstr("Wan2.2-T2V-A14B-Diffusers"));
  wan = WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/Wan2.2-TI2V-5B/config.json");
  EXPECT_THAT(card(wan, ExportForm::kOriginal, ""), AllOf(HasSubstr("Wan2.2-TI2V-5B"), HasSubstr("ComfyUI")));
  const std::string embedded = card(WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/bouncing_ball/config.json"),
                                    ExportForm::kOriginal, "bouncing_ball");
  EXPECT_THAT(embedded, AllOf(HasSubstr("sgmd-sample --model s --student-steps 1000 750 500 250 --shift 5"),
                              Not(HasSubstr("ComfyUI")), Not(HasSubstr("LightX2V")), Not(HasSubstr("WanPipeline")),
                              Not(HasSubstr("base_model")), Not(HasSubstr("license"))));
}

TEST_F(Exporter, CardWarnsOfStepsThatOtherSchedulersDoNotMake) {
  StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
  EXPECT_TRUE(StudentSchedule::Of(student).IsEven());
  student.experiment->schedule.student_steps = {1000, 500, 250};
  EXPECT_FALSE(StudentSchedule::Of(student).IsEven());
  EXPECT_THAT(ModelCard(student, ExportForm::kOriginal, "s", DType::kF32, {}), HasSubstr("not evenly spaced"));
}

TEST_F(Exporter, CardOfAStudentThatIsGivenNewNoiseNamesOnlySamplersThatDoSo) {
  StudentSource student = OpenStudent(run(), WeightsChoice::kBest);
  student.config = WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/Wan2.1-T2V-1.3B/config.json");
  Experiment::Schedule& schedule = student.experiment->schedule;
  schedule.rollout = RolloutForm::kRenoise;
  const auto card = [&] { return ModelCard(student, ExportForm::kLora, "s", DType::kF32, {}); };
  EXPECT_THAT(card(), AllOf(HasSubstr("sampler `lcm`, scheduler `simple`, ModelSamplingSD3 shift 5"),
                            HasSubstr("from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline"),
                            HasSubstr("shift_terminal=0.625, stochastic_sampling=True)"), Not(HasSubstr("LightX2V")),
                            Not(HasSubstr("lambda steps")), Not(HasSubstr("`euler`"))));
  schedule.student_steps = {1000, 900, 500, 250};
  EXPECT_THAT(card(), AllOf(HasSubstr("It must be given the sigmas, as below."),
                            HasSubstr("set_timesteps(device=device, sigmas=[1, 0.978261, 0.833333, 0.625])")));
  schedule.student_steps = {1000};
  EXPECT_THAT(card(), AllOf(HasSubstr("UniPCMultistepScheduler"), HasSubstr("LightX2V"))) << "no step has new noise";
}

}  // namespace
}  // namespace sgmd
