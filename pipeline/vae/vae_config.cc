#include "pipeline/vae/vae_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using nlohmann::json;

// wan_facts §3.1 and §3.2
const std::vector<double> kMean21{-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653, -0.1517, 1.5508,
                                  0.4134,  -0.0715, 0.5517,  -0.3632, -0.1922, -0.9497, 0.2503, -0.2921};
const std::vector<double> kStd21{2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                                 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160};
const std::vector<double> kMean22{
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174,  0.1838,  0.1557,  -0.1382, 0.0542,  0.2813,  0.0891,
    0.1570,  -0.0098, 0.0375,  -0.1825, -0.2246, -0.1207, -0.0698, 0.5109,  0.2665,  -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109,  0.1567,  -0.0729, 0.0899,  -0.2799, -0.1230, -0.0313, -0.1649, 0.0117,  0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748,  0.0152,  0.1957,  0.1433,  -0.2944, 0.3573,  -0.0548, -0.1681, -0.0667};
const std::vector<double> kStd22{
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744};

// Leaves `out` as it is when the key is absent or null. Throws Error when it has another type.
template <typename T>
void Read(const json& object, const char* key, const std::string& where, T* out) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return;
  try {
    *out = it->get<T>();
  } catch (const json::exception&) {
    throw Error(StrCat("key \"", key, "\" has the wrong type: ", it->dump()), where);
  }
}

// Rows of the first of `names` that the file has.
std::int64_t Rows(const ShardedSafetensors& file, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const TensorView* view = file.Find(name);
    if (view != nullptr && !view->shape.empty()) return view->shape.front();
  }
  throw Error(StrCat("not a Wan VAE: no tensor \"", *names.begin(), "\""), file.path().string(),
              "give the vae/ folder of a -Diffusers repository, or its safetensors file");
}

}  // namespace

std::int64_t VaeConfig::temporal_factor() const {
  return std::int64_t{1} << std::count(temporal_downsample.begin(), temporal_downsample.end(), true);
}

std::int64_t VaeConfig::spatial_factor() const { return patch_size << (stages() - 1); }

VaeConfig VaeConfig::Wan21() {
  VaeConfig c;
  c.latents_mean = kMean21;
  c.latents_std = kStd21;
  return c;
}

VaeConfig VaeConfig::Wan22() {
  VaeConfig c;
  c.base_dim = 160;
  c.decoder_base_dim = 256;
  c.z_dim = 48;
  c.is_residual = true;
  c.in_channels = c.out_channels = 12;
  c.patch_size = 2;
  c.latents_mean = kMean22;
  c.latents_std = kStd22;
  return c;
}

VaeConfig VaeConfig::FromFile(const std::filesystem::path& path) {
  const std::string where = path.string();
  const json object = json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", where);
  VaeConfig c = Wan21();
  Read(object, "base_dim", where, &c.base_dim);
  c.decoder_base_dim = c.base_dim;
  Read(object, "decoder_base_dim", where, &c.decoder_base_dim);
  Read(object, "z_dim", where, &c.z_dim);
  Read(object, "dim_mult", where, &c.dim_mult);
  Read(object, "num_res_blocks", where, &c.num_res_blocks);
  Read(object, "attn_scales", where, &c.attn_scales);
  Read(object, "temperal_downsample", where, &c.temporal_downsample);  // so spelt there
  Read(object, "is_residual", where, &c.is_residual);
  Read(object, "in_channels", where, &c.in_channels);
  Read(object, "out_channels", where, &c.out_channels);
  Read(object, "patch_size", where, &c.patch_size);
  Read(object, "latents_mean", where, &c.latents_mean);
  Read(object, "latents_std", where, &c.latents_std);
  c.Validate(where);
  return c;
}

VaeConfig VaeConfig::FromTensors(const ShardedSafetensors& file) {
  const std::int64_t z = Rows(file, {"conv2.weight", "post_quant_conv.weight"});
  if (z != 16 && z != 48) {
    throw Error(StrCat("a VAE of ", z, " latent channels and no config.json"), file.path().string(),
                "without one, 16 (Wan2.1) and 48 (Wan2.2) channels are recognised; put the Diffusers config.json beside the file");
  }
  VaeConfig c = z == 16 ? Wan21() : Wan22();
  c.base_dim = Rows(file, {"encoder.conv1.weight", "encoder.conv_in.weight"});
  c.decoder_base_dim = Rows(file, {"decoder.head.0.gamma", "decoder.norm_out.gamma"});
  return c;
}

void VaeConfig::Validate(const std::string& where) const {
  const auto require = [&](bool holds, std::string_view what) {
    if (!holds) throw Error(std::string(what), where);
  };
  require(std::min({base_dim, decoder_base_dim, z_dim, num_res_blocks, in_channels, out_channels, patch_size}) > 0,
          "every size must be positive");
  require(!dim_mult.empty() && *std::min_element(dim_mult.begin(), dim_mult.end()) > 0, "dim_mult must be positive sizes");
  require(dim_mult.size() <= 8, "dim_mult has more than 8 stages");
  require(temporal_downsample.size() + 1 == dim_mult.size(), "temperal_downsample must have one entry fewer than dim_mult");
  require(in_channels == out_channels && in_channels == 3 * patch_size * patch_size,
          "in_channels and out_channels must be 3 (RGB) times patch_size squared");
  const auto z = static_cast<std::size_t>(z_dim);
  require(latents_mean.size() == z && latents_std.size() == z, "latents_mean and latents_std must have z_dim entries");
  require(*std::min_element(latents_std.begin(), latents_std.end()) > 0, "latents_std must be positive");
}

std::string VaeOfChannels(std::int64_t channels) {
  if (channels == 16) return "the Wan2.1 VAE (vae/ of any Wan -Diffusers repository but TI2V-5B)";
  if (channels == 48) return "the Wan2.2 VAE (vae/ of Wan2.2-TI2V-5B-Diffusers)";
  return StrCat("a VAE with z_dim ", channels);
}

}  // namespace sgmd
