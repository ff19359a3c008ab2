#include "tests/nodes/exporter_fixture.h"

#include <gmock/gmock.h>

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

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
  StudentSource student = OpenStudent(adapted(), WeightsChoice::kBest);
  ExportLora(student, {}, folder_ / "loras/l.safetensors");
  EXPECT_THAT(ReadFile(folder_ / "loras/README.md"),
              AllOf(HasSubstr("Adapters (LoRA) that make of their base a 4-step"), HasSubstr("| strength | 1.0"),
                    HasSubstr("pipe.load_lora_weights(\"<this folder>\", weight_name=\"l.safetensors\")"),
                    Not(HasSubstr("ComfyUI"))));
  student.config = WanConfig::FromFile(SGMD_SOURCE_DIR "/launch/models/Wan2.1-T2V-14B/config.json");
  EXPECT_THAT(ModelCard(student, ExportForm::kLora, "l.safetensors", DType::kF32, {}),
              AllOf(HasSubstr("\"lora_configs\": [{\"path\": \"l.safetensors\", \"strength\": 1.0}]"),
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

TEST_F(AdapterExporter, MergesOnlyIntoTheModelThatTheRunStartedFrom) {
  const auto merge = [&] { ToDiffusers(adapted(), WeightsChoice::kBest); };
  fs::create_directories(adapted() / "student");  // has the sizes once the teacher is gone
  teacher_.Save(adapted() / "student");
  WanTransformer other(TinyWanConfig(2));
  other.Initialise(2);
  other.Save(folder_ / "teacher");
  EXPECT_THAT(ErrorOf(merge), AllOf(HasSubstr("not trained on what is there now"), HasSubstr("--lora")));
  fs::remove_all(folder_ / "teacher");
  EXPECT_THAT(ErrorOf(merge), HasSubstr("the model that the adapters belong to is gone"));
  ExportLora(OpenStudent(adapted(), WeightsChoice::kBest), {}, folder_ / "loras/l.safetensors");
}

}  // namespace
}  // namespace sgmd
