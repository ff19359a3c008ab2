#include "pipeline/evaluation/video_features.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include "common/error/error.h"
#include "pipeline/evaluation/motion_features.h"

namespace sgmd {
namespace {

VideoFeatures Batched(VideoFeatures features) {
  return [features = std::move(features)](const at::Tensor& videos) {
    constexpr std::int64_t kBatch = 64;
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> parts;
    for (const at::Tensor& part : videos.split(kBatch)) parts.push_back(features(part));
    return at::cat(parts);
  };
}

VideoFeatures LoadTorchScript(const std::filesystem::path& path) {
  try {
    auto module = std::make_shared<torch::jit::Module>(torch::jit::load(path.string()));
    module->eval();
    return [module, path](const at::Tensor& videos) {
      const at::Tensor features = module->forward({videos}).toTensor();
      if (features.dim() != 2 || features.size(0) != videos.size(0)) {
        throw Error(StrCat("features must be [", videos.size(0), ", D], the network gives ", features.sizes()),
                    path.string());
      }
      return features;
    };
  } catch (const c10::Error& error) {
    throw Error(StrCat("not a TorchScript module: ", error.what_without_backtrace()), path.string(),
                "torch.jit.script(network).save(file) makes one");
  }
}

}  // namespace

VideoFeatures LoadVideoFeatures(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) throw Error("no feature network here", path.string());
  if (path.extension() != ".safetensors") return Batched(LoadTorchScript(path));
  return Batched([network = MotionFeatures::Load(path)](const at::Tensor& videos) { return network.Features(videos); });
}

}  // namespace sgmd
