#include "pipeline/image/clip_vision.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "common/error/error.h"
#include "pipeline/image/clip_files.h"
#include "pipeline/image/picture.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

ClipVision::ClipVision(ClipVisionConfig config, ShardedSafetensors file, at::Device device)
    : config_(config), file_(std::move(file)), device_(device) {
  CheckClipTensors(config_, file_);
}

ClipVision ClipVision::Load(const std::filesystem::path& path, at::Device device) {
  const std::filesystem::path folder = FindClipFolder(path);
  return {ClipVisionConfig::FromFile(folder / "config.json"), ShardedSafetensors::Open(folder), device};
}

const TensorView& ClipVision::View(const std::string& name) const { return *FindClipTensor(file_, name); }

at::Tensor ClipVision::Weight(const std::string& name) const {
  return CopyToTensor(View(name)).to(device_).to(at::kFloat);
}

at::Tensor ClipVision::Linear(const std::string& name, const at::Tensor& x) const {
  return at::linear(x, Weight(name + ".weight"), Weight(name + ".bias"));
}

at::Tensor ClipVision::Norm(const std::string& name, const at::Tensor& x) const {
  return at::layer_norm(x, {config_.hidden_size}, Weight(name + ".weight"), Weight(name + ".bias"),
                        config_.layer_norm_eps);
}

// The class token and the patches, each at its place, normed.
at::Tensor ClipVision::Embed(const at::Tensor& pixels) const {
  const at::Tensor patches =
      at::conv2d(pixels, Weight("embeddings.patch_embedding.weight"), /*bias=*/{}, config_.patch_size)
          .flatten(2)
          .transpose(1, 2);
  const at::Tensor first = Weight("embeddings.class_embedding").expand({pixels.size(0), 1, config_.hidden_size});
  return Norm("pre_layrnorm", at::cat({first, patches}, 1) + Weight("embeddings.position_embedding.weight"));
}

at::Tensor ClipVision::RunLayer(std::int64_t number, const at::Tensor& h) const {
  const std::string layer = StrCat("encoder.layers.", number, ".");
  const std::int64_t heads = config_.num_attention_heads, d = config_.hidden_size;
  const at::Tensor normed = Norm(layer + "layer_norm1", h);
  const auto part = [&](const char* name) {
    return Linear(layer + "self_attn." + name, normed).view({h.size(0), h.size(1), heads, d / heads}).transpose(1, 2);
  };
  const at::Tensor mixed = at::scaled_dot_product_attention(part("q_proj"), part("k_proj"), part("v_proj"));
  const at::Tensor x = h + Linear(layer + "self_attn.out_proj", mixed.transpose(1, 2).flatten(2));
  const at::Tensor inner = Linear(layer + "mlp.fc1", Norm(layer + "layer_norm2", x));
  return x + Linear(layer + "mlp.fc2", config_.quick_gelu ? inner * at::sigmoid(1.702 * inner) : at::gelu(inner));
}

at::Tensor ClipVision::HiddenStates(const at::Tensor& pixels) const {
  const c10::NoGradGuard no_grad;
  TORCH_CHECK(pixels.dim() == 4 && pixels.size(1) == 3 && pixels.size(2) == config_.image_size &&
                  pixels.size(3) == config_.image_size,
              "CLIP takes pictures of ", config_.image_size, " pixels, got ", pixels.sizes());
  at::Tensor h = Embed(pixels.to(device_));
  for (std::int64_t number = 0; number + 1 < config_.num_hidden_layers; ++number) h = RunLayer(number, h);
  return h;
}

at::Tensor ClipVision::Encode(const at::Tensor& picture) const {
  const at::Tensor square = MiddleSquare(picture, config_.image_size, Resampling::kBicubic);
  return HiddenStates(ClipPixels(square))[0].cpu().contiguous();
}

Digest ClipVision::digest() const {
  Hasher hasher;
  hasher.Text("clip_vision").Real(config_.layer_norm_eps).Integer(static_cast<std::uint64_t>(config_.quick_gelu));
  hasher.Integer(static_cast<std::uint64_t>(config_.num_attention_heads));
  for (const ClipTensor& tensor : ClipTensors(config_)) {  // names and shapes fix every other size of the config
    const TensorView& view = View(tensor.name);
    hasher.Text(tensor.name).Text(Name(view.dtype)).Integer(view.shape.size());
    for (const std::int64_t extent : view.shape) hasher.Integer(static_cast<std::uint64_t>(extent));
    hasher.Bytes(view.bytes);
  }
  return hasher.Finish();
}

at::Tensor ClipPixels(const at::Tensor& picture) {
  const at::Tensor mean = at::tensor({0.48145466F, 0.4578275F, 0.40821073F}),
                   deviation = at::tensor({0.26862954F, 0.26130258F, 0.27577711F});
  const at::Tensor normalised = (picture.to(at::kFloat) / 255 - mean) / deviation;
  return normalised.permute({2, 0, 1}).unsqueeze(0).contiguous();
}

}  // namespace sgmd
