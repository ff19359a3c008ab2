#include "pipeline/models/wan_files.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/config/experiment.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/wan_names.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_config.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class WanFiles : public testing::Test {
 protected:
  WanFiles() : model_(TinyWanConfig(2)) {
    model_.Initialise(1);
    const c10::NoGradGuard no_grad;
    for (const auto& [name, p] : model_.parameters()) p.add_(Noise(p.sizes(), 7) * 0.1);
  }

  // The model's tensors, named and converted as asked.
  NamedTensors Tensors(const std::function<std::string(const std::string&)>& naming,
                       at::ScalarType dtype = at::kFloat) const {
    NamedTensors named;
    for (const auto& [name, p] : model_.parameters()) named.emplace_back(naming(name), p.to(dtype));
    return named;
  }
  static std::string Same(const std::string& name) { return name; }

  void WriteConfig(const fs::path& folder, const std::string& json) {
    fs::create_directories(folder);
    WriteFileAtomically(folder / "config.json", json);
  }
  // Two shards and their index.
  void WriteShards(const fs::path& folder, const NamedTensors& tensors) {
    nlohmann::json map;
    NamedTensors halves[2];
    for (std::size_t i = 0; i < tensors.size(); ++i) halves[i % 2].push_back(tensors[i]);
    for (int i = 0; i < 2; ++i) {
      const std::string file = StrCat("diffusion_pytorch_model-0000", i + 1, "-of-00002.safetensors");
      SaveTensors(folder / file, halves[i]);
      for (const auto& [name, tensor] : halves[i]) map[name] = file;
    }
    WriteFileAtomically(folder / "diffusion_pytorch_model.safetensors.index.json",
                        nlohmann::json{{"weight_map", map}}.dump());
  }
  void ExpectModel(const fs::path& path, at::ScalarType through = at::kFloat) const {
    const WanTransformer loaded = WanTransformer::Load(path, at::kCPU);
    for (std::size_t i = 0; i < model_.parameters().size(); ++i) {
      const auto& [name, p] = model_.parameters()[i];
      EXPECT_EQ(loaded.parameters()[i].second.scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(loaded.parameters()[i].second, p.to(through).to(at::kFloat))) << name;
    }
  }
  std::string Refusal(const fs::path& path) const {
    try {
      WanTransformer::Load(path, at::kCPU);
    } catch (const Error& error) {
      return error.what();
    }
    return "loaded";
  }

  TempFolder folder_;
  WanTransformer model_;
};

TEST_F(WanFiles, LoadsOriginalFoldersSingleAndSharded) {
  WriteConfig(folder_ / "single", model_.config().ToJson());
  SaveTensors(folder_ / "single/diffusion_pytorch_model.safetensors", Tensors(Same));
  ExpectModel(folder_ / "single");
  ExpectModel(folder_ / "single/");
  WriteConfig(folder_ / "sharded", model_.config().ToJson());
  WriteShards(folder_ / "sharded", Tensors(Same));
  ExpectModel(folder_ / "sharded");
}

TEST_F(WanFiles, LoadsDiffusersFoldersAndPipelineRoots) {
  WriteConfig(folder_ / "root/transformer", model_.config().ToDiffusersJson());
  WriteShards(folder_ / "root/transformer", Tensors(DiffusersName));
  WriteFileAtomically(folder_ / "root/model_index.json",
                      R"({"_class_name":"WanPipeline","boundary_ratio":null,"transformer_2":[null,null]})");
  ExpectModel(folder_ / "root/transformer");
  ExpectModel(folder_ / "root");
  EXPECT_EQ(ModelDigest(folder_ / "root"), ModelDigest(folder_ / "root/transformer"));
}

TEST_F(WanFiles, LoadsASingleFileWithAPrefix) {
  WriteConfig(folder_.path(), model_.config().ToJson());
  for (const std::string prefix : {"model.diffusion_model.", "diffusion_model."}) {
    SaveTensors(folder_ / "student.safetensors", Tensors([&](const std::string& name) { return prefix + name; }));
    ExpectModel(folder_ / "student.safetensors");
  }
}

TEST_F(WanFiles, ConvertsAnyFloatingDtype) {
  WriteConfig(folder_.path(), model_.config().ToJson());
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf, at::kDouble}) {
    SaveTensors(folder_ / "diffusion_pytorch_model.safetensors", Tensors(Same, dtype));
    ExpectModel(folder_.path(), dtype);
  }
  SaveTensors(folder_ / "diffusion_pytorch_model.safetensors", Tensors(Same, at::kInt));
  EXPECT_THAT(Refusal(folder_.path()), HasSubstr("dtype of blocks.0.modulation: I32"));
}

TEST_F(WanFiles, LoadsTensorsThatAreNotAligned) {  // foreign writers need not align
  WriteConfig(folder_.path(), model_.config().ToJson());
  const fs::path path = folder_ / "diffusion_pytorch_model.safetensors";
  SaveTensors(path, Tensors(Same));
  std::string bytes = ReadFile(path);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  bytes.insert(8 + header, " ");
  ++header;
  std::memcpy(bytes.data(), &header, 8);
  WriteFileAtomically(path, bytes);
  ExpectModel(folder_.path());
}

TEST_F(WanFiles, ListsEveryTensorThatDoesNotFit) {
  WriteConfig(folder_.path(), model_.config().ToDiffusersJson());
  NamedTensors tensors = Tensors(DiffusersName);
  const auto at_name = [&](const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == name; });
  };
  tensors.erase(at_name("blocks.1.attn2.to_k.weight"));
  at_name("proj_out.bias")->second = at::zeros({3});
  tensors.emplace_back("blocks.0.attn2.add_k_proj.weight", at::zeros({1}));
  SaveTensors(folder_ / "diffusion_pytorch_model.safetensors", tensors);
  EXPECT_THAT(Refusal(folder_.path()),
              AllOf(HasSubstr("missing: blocks.1.cross_attn.k.weight"),
                    HasSubstr("unexpected: blocks.0.cross_attn.k_img.weight (there blocks.0.attn2.add_k_proj.weight)"),
                    HasSubstr("shape of head.head.bias (there proj_out.bias): file [3], model [8]")));
}

TEST_F(WanFiles, RefusesATruncatedShard) {
  WriteConfig(folder_.path(), model_.config().ToJson());
  WriteShards(folder_.path(), Tensors(Same));
  const fs::path shard = folder_ / "diffusion_pytorch_model-00002-of-00002.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 100);
  EXPECT_THAT(Refusal(folder_.path()), AllOf(HasSubstr("00002-of-00002.safetensors"), HasSubstr("truncated")));
  fs::resize_file(shard, 100);
  EXPECT_THAT(Refusal(folder_.path()), AllOf(HasSubstr("00002-of-00002.safetensors"), HasSubstr("truncated")));
  fs::remove(shard);
  EXPECT_THAT(Refusal(folder_.path()), HasSubstr("00002-of-00002.safetensors is missing"));
}

TEST_F(WanFiles, RefusesPicklesAndSaysHowToConvertThem) {
  WriteConfig(folder_.path(), model_.config().ToJson());
  WriteFileAtomically(folder_ / "pytorch_model.bin", "pickle");
  EXPECT_THAT(Refusal(folder_.path()),
              AllOf(HasSubstr("Python pickles"), HasSubstr("save_file(torch.load("), HasSubstr("-Diffusers")));
  EXPECT_THAT(Refusal(folder_ / "pytorch_model.bin"), HasSubstr("Python pickle"));
}

TEST_F(WanFiles, AsksForWhatIsMissing) {
  EXPECT_THAT(Refusal(folder_ / "nowhere"), HasSubstr("no such model"));
  EXPECT_THAT(Refusal(folder_.path()), HasSubstr("config.json is missing"));
  SaveTensors(folder_ / "student.safetensors", Tensors(Same));
  EXPECT_THAT(Refusal(folder_ / "student.safetensors"), HasSubstr("copy the config.json"));
  WriteConfig(folder_.path(), model_.config().ToJson());
  SaveTensors(folder_ / "other.safetensors", Tensors(Same));
  EXPECT_THAT(Refusal(folder_.path()), HasSubstr("name the file itself"));
  ExpectModel(folder_ / "other.safetensors");
}

TEST_F(WanFiles, DigestIsOfTheWeightsTheIndexAndTheConfig) {
  WriteConfig(folder_.path(), model_.config().ToJson());
  WriteShards(folder_.path(), Tensors(Same));
  const Digest first = ModelDigest(folder_.path());
  WriteFileAtomically(folder_ / "README.md", "not the model");
  WriteFileAtomically(folder_ / "prompt_bank.safetensors", "not the model either");
  EXPECT_EQ(ModelDigest(folder_.path()), first);
  const fs::path index = folder_ / "diffusion_pytorch_model.safetensors.index.json";
  WriteFileAtomically(index, ReadFile(index) + " ");
  EXPECT_NE(ModelDigest(folder_.path()), first);
}

class WanConfigFile : public testing::Test {
 protected:
  WanConfig Read(const nlohmann::json& json) {
    WriteFileAtomically(folder_ / "config.json", json.dump());
    return WanConfig::FromFile(folder_ / "config.json");
  }
  std::string Refusal(const nlohmann::json& json) {
    try {
      Read(json);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  // wan_facts §6: the keys of the published files.
  const nlohmann::json original_{{"_class_name", "WanModel"},
                                 {"model_type", "t2v"},
                                 {"text_len", 512},
                                 {"in_dim", 16},
                                 {"dim", 1536},
                                 {"ffn_dim", 8960},
                                 {"freq_dim", 256},
                                 {"out_dim", 16},
                                 {"num_heads", 12},
                                 {"num_layers", 30},
                                 {"eps", 1e-6}};
  const nlohmann::json diffusers_{{"_class_name", "WanTransformer3DModel"},
                                  {"patch_size", {1, 2, 2}},
                                  {"num_attention_heads", 12},
                                  {"attention_head_dim", 128},
                                  {"in_channels", 16},
                                  {"out_channels", 16},
                                  {"text_dim", 4096},
                                  {"freq_dim", 256},
                                  {"ffn_dim", 8960},
                                  {"num_layers", 30},
                                  {"cross_attn_norm", true},
                                  {"qk_norm", "rms_norm_across_heads"},
                                  {"eps", 1e-6},
                                  {"image_dim", nullptr},
                                  {"added_kv_proj_dim", nullptr},
                                  {"rope_max_seq_len", 1024},
                                  {"pos_embed_seq_len", nullptr}};
  nlohmann::json With(nlohmann::json json, const char* key, nlohmann::json value) {
    json[key] = std::move(value);
    return json;
  }
  TempFolder folder_;
};

TEST_F(WanConfigFile, BothFormsMeanTheSameModel) {
  EXPECT_EQ(Read(original_).ToJson(), Read(diffusers_).ToJson());
  EXPECT_EQ(Read(original_).text_len, 512);
  EXPECT_EQ(nlohmann::json::parse(Read(original_).ToDiffusersJson()), diffusers_);
  WanConfig tiny = TinyWanConfig(2);
  EXPECT_EQ(Read(nlohmann::json::parse(tiny.ToDiffusersJson())).ToJson(), tiny.ToJson());  // text_len 4 is kept
}

TEST_F(WanConfigFile, TakesTI2VAsTextToVideo) {
  auto ti2v = With(With(With(original_, "model_type", "ti2v"), "in_dim", 48), "out_dim", 48);
  EXPECT_EQ(Read(ti2v).model_type, "ti2v");
  EXPECT_EQ(Read(With(With(diffusers_, "in_channels", 48), "out_channels", 48)).ToJson(), Read(ti2v).ToJson());
}

TEST_F(WanConfigFile, ReadsImageToVideoInBothForms) {
  const auto original = With(With(With(original_, "model_type", "i2v"), "in_dim", 36), "image_dim", 1280);
  const auto image = With(With(With(diffusers_, "in_channels", 36), "image_dim", 1280), "added_kv_proj_dim", 1536);
  EXPECT_EQ(Read(original).ToJson(), Read(image).ToJson());
  EXPECT_EQ(nlohmann::json::parse(Read(original).ToDiffusersJson()), image);
  EXPECT_EQ(nlohmann::json::parse(Read(original).ToJson())["image_dim"], 1280);
  const auto without = With(diffusers_, "in_channels", 36);  // Wan2.2
  EXPECT_EQ(nlohmann::json::parse(Read(without).ToDiffusersJson()), without);
  EXPECT_TRUE(Read(without).takes_image());
  EXPECT_FALSE(Read(without).takes_clip());
  EXPECT_EQ(Read(nlohmann::json::parse(Read(without).ToJson())), Read(without));
}

// Their files are alike, and only one of them has CLIP tokens.
TEST_F(WanConfigFile, TellsOriginalWan21FromAnExpertOfWan22ByTheFolder) {
  const auto published = With(With(original_, "model_type", "i2v"), "in_dim", 36);
  EXPECT_EQ(Read(published).image_dim, 1280);
  for (const char* expert : {"high_noise_model", "low_noise_model"}) {
    std::filesystem::create_directory(folder_ / expert);
    WriteFileAtomically(folder_ / expert / "config.json", published.dump());
    EXPECT_EQ(WanConfig::FromFile(folder_ / expert / "config.json").image_dim, 0);
  }
}

TEST_F(WanConfigFile, RefusesOtherKindsAndNamesWhatIsSupported) {
  for (const char* type : {"flf2v", "vace", "s2v"}) {
    EXPECT_THAT(Refusal(With(original_, "model_type", type)),
                AllOf(HasSubstr(StrCat('"', type, '"')), HasSubstr("Wan2.2-TI2V-5B")));
  }
  EXPECT_THAT(Refusal(With(original_, "in_dim", 32)),
              AllOf(HasSubstr("32 channels in and 16 out"), HasSubstr("Wan2.1-T2V-1.3B")));
  EXPECT_THAT(Refusal(With(diffusers_, "image_dim", 1280)), HasSubstr("image_dim"));
  EXPECT_THAT(Refusal(With(diffusers_, "added_kv_proj_dim", 5120)), HasSubstr("added_kv_proj_dim"));
  EXPECT_THAT(Refusal(With(diffusers_, "pos_embed_seq_len", 514)), HasSubstr("pos_embed_seq_len"));
  EXPECT_THAT(Refusal(With(diffusers_, "_class_name", "WanVACETransformer3DModel")),
              HasSubstr("WanVACETransformer3DModel"));
  EXPECT_THAT(Refusal(With(original_, "window_size", {8, 8})), HasSubstr("window"));
}

TEST_F(WanConfigFile, NamesTheKeyThatIsWrong) {
  auto without = diffusers_;
  without.erase("ffn_dim");
  EXPECT_THAT(Refusal(without), HasSubstr("\"ffn_dim\" is missing"));
  EXPECT_THAT(Refusal(With(diffusers_, "num_layers", "30")), HasSubstr("\"num_layers\" must be an integer"));
  EXPECT_THAT(Refusal(With(diffusers_, "patch_size", {1, 2})), HasSubstr("patch_size"));
  EXPECT_THAT(Refusal(With(diffusers_, "eps", "small")), HasSubstr("eps"));
  EXPECT_THAT(Refusal("text"), HasSubstr("not a JSON object"));
}

}  // namespace
}  // namespace sgmd
