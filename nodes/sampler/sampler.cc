#include "nodes/sampler/sampler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <optional>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/progress.h"
#include "common/storage/model_folder.h"
#include "nodes/sampler/first_frames.h"
#include "nodes/sampler/output.h"
#include "nodes/sampler/text.h"
#include "nodes/sampler/trajectories.h"
#include "pipeline/device/open_device.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/first_frame.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {
namespace {

constexpr double kDefaultShift = 5;
constexpr std::int64_t kEnlargement = 12;  // of latents that are shown as they are

bool ShowsPictures(const SampleOptions& o) { return std::any_of(o.out.begin(), o.out.end(), IsPicture); }

StepGrid Grid(const SampleOptions& o, double shift) {
  if (!o.student_steps.empty()) {
    if (std::adjacent_find(o.student_steps.begin(), o.student_steps.end(), std::less_equal<>()) !=
        o.student_steps.end()) {
      throw Error("timesteps must fall", "--student-steps", "such as 1000 750 500 250");
    }
    return ExactGrid(StudentSigmas(o.student_steps, shift));
  }
  if (o.solver == "euler") return ExactGrid(UniformSigmas(o.steps, shift));
  return UniPcGrid(TimeGridFromName(o.grid), o.steps, shift);
}

// A function of the seed, the video and the step, whatever videos are drawn together.
VideoNoise StepNoiseOf(const SampleOptions& o) {
  if (o.student_steps.empty()) {
    throw Error("only a few-step student is given new noise at each step", "--rollout renoise",
                "give its steps: --student-steps 1000 750 500 250");
  }
  return [seed = o.seed](at::IntArrayRef shape, std::int64_t video, std::int64_t step) {
    return Noise(shape, SeedFor(seed, step, video, "sampler_step_noise"));
  };
}

TrajectoryOptions HowToIntegrate(const SampleOptions& o, const ModelParts& parts) {
  const bool student = !o.student_steps.empty();
  TrajectoryOptions how;
  how.grid = Grid(o, o.shift.value_or(parts.shift.value_or(kDefaultShift)));
  how.unipc = !student && o.solver == "unipc";
  if (o.guidance_low && parts.experts.size() == 1) {
    throw Error("a model of one transformer has one guidance", o.model.string(), "--guidance, not --guidance-low");
  }
  if (o.rollout == "renoise") how.step_noise = StepNoiseOf(o);
  for (const Expert& expert : parts.experts) {
    const double guidance = expert.name == kLowNoiseExpert ? o.guidance_low.value_or(o.guidance) : o.guidance;
    how.guidance.push_back(student ? 1 : guidance);
  }
  how.device = OpenDevice(o.device);
  const bool half = o.dtype.empty() ? how.device.is_cuda() : o.dtype == "bfloat16";
  how.dtype = half ? at::kBFloat16 : at::kFloat;
  how.keep = !o.trajectory.empty();
  return how;
}

// Channels, frames, height, width of the latents.
std::vector<std::int64_t> Shape(const SampleOptions& o, const WanConfig& config) {
  if (!o.noise.empty()) {
    std::vector<std::int64_t> shape = SafetensorsFile::Open(o.noise).At("noise").shape;
    shape.resize(5, 0);  // what is no batch of latents is refused where it is read
    return {config.out_dim, shape[2], shape[3], shape[4]};
  }
  if (o.latent.empty()) {
    const auto shape = LatentShape(config, o.size);
    return {shape.begin(), shape.end()};
  }
  if (o.latent[0] != config.out_dim) {
    throw Error(StrCat("latents of ", o.latent[0], " channels, the model has ", config.out_dim), "--latent");
  }
  for (int axis = 0; axis < 3; ++axis) {
    if (o.latent[axis + 1] <= 0 || o.latent[axis + 1] % config.patch_size[axis] != 0) {
      throw Error(StrCat(o.latent[axis + 1], " is not a positive multiple of the patch's ", config.patch_size[axis]),
                  "--latent");
    }
  }
  return o.latent;
}

// [videos, C, F, H, W] float32 CPU.
at::Tensor InitialNoise(const SampleOptions& o, std::vector<std::int64_t> shape, std::int64_t videos) {
  shape.insert(shape.begin(), videos);
  if (o.noise.empty()) return Noise(shape, SeedFor(o.seed, 0, 0, "sampler_noise"));
  const at::Tensor noise = CopyToTensor(SafetensorsFile::Open(o.noise).At("noise")).to(at::kFloat);
  if (noise.dim() != 5 || noise.size(0) != videos || noise.size(1) != shape[1]) {
    throw Error(StrCat("noise of shape ", noise.sizes(), " for ", videos, " prompts and ", shape[1], " channels"),
                o.noise.string(), "\"noise\" is to be [prompts, channels, frames, height, width] of the latents");
  }
  return noise;
}

void SaveTrajectory(const SampleOptions& o, const StepGrid& grid, const std::vector<at::Tensor>& samples) {
  NamedTensors tensors{{"sigmas", at::tensor(grid.sigmas, at::kDouble)},
                       {"timesteps", at::tensor(grid.timesteps, at::kDouble)}};
  for (std::size_t i = 0; i < samples.size(); ++i) tensors.emplace_back(StrCat("x_", i), samples[i]);
  SaveTensors(o.trajectory, tensors);
  std::cout << "trajectory " << o.trajectory.string() << "\n";
}

VaeTiling Tiling(const SampleOptions& o, std::int64_t spatial_factor) {
  return VaeTiling::WithQuarterShared(o.vae_tile, spatial_factor, "--vae-tile");
}

// What the latents of the videos show, one video after the other.
class Decoder {
 public:
  Decoder(const SampleOptions& o, const std::filesystem::path& vae, const at::Tensor& latents) : latents_(latents) {
    if (vae.empty()) return;
    vae_.emplace(WanVae::Load(vae, at::Device(o.device)));
    where_ = vae_->device();
    if (o.vae_tile == 0) return;
    vae_->TileSpace(Tiling(o, vae_->config().spatial_factor()));
    where_ = at::kCPU;  // what is decoded stays there: tiles are for short memory
  }

  // uint8 [F, H, W, 3].
  at::Tensor Decode(std::int64_t video) {
    const at::Tensor latent = latents_.narrow(0, video, 1);
    if (!vae_) return EnlargeToRgb(latent, kEnlargement)[0];
    const auto progress = [&](std::int64_t done, std::int64_t total) {
      if (!line_) line_.emplace("decoding", latents_.size(0) * total);
      line_->Update(video * total + done);
    };
    return EnlargeToRgb(vae_->Decode(latent.to(where_), progress), 1)[0];
  }

 private:
  at::Tensor latents_;
  std::optional<WanVae> vae_;
  at::Device where_ = at::kCPU;
  std::optional<ProgressLine> line_;
};

// Each video when it is decoded, so that no more than one is held, and those that are there stay where a later one
// fails.
void WritePictures(const SampleOptions& o, const std::filesystem::path& vae, const at::Tensor& latents,
                   double frame_rate) {
  Decoder decoder(o, vae, latents);
  const std::int64_t count = latents.size(0);
  const auto write = [&](const std::filesystem::path& path, const std::vector<at::Tensor>& videos) {
    WriteVideos(path, videos, frame_rate);
    std::cout << "video " << path.string() << std::endl;
  };
  std::vector<at::Tensor> together;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor video = decoder.Decode(i);
    if (o.side_by_side) together.push_back(video);
    for (const auto& path : o.out) {
      if (IsPicture(path) && !o.side_by_side) write(count == 1 ? path : Numbered(path, i + 1), {video});
    }
  }
  for (const auto& path : o.out) {
    if (IsPicture(path) && o.side_by_side) write(path, together);
  }
}

void CheckBeforeLoading(const SampleOptions& o, const std::filesystem::path& vae, const WanConfig& config) {
  CheckExtensions(o.out);
  if (!ShowsPictures(o)) return;
  if (vae.empty() && config.out_dim != 3) {
    throw Error(StrCat("pictures of ", config.out_dim, "-channel latents need a VAE"), o.model.string(),
                "give --vae, or only a .safetensors file as --out");
  }
  if (!vae.empty() && !std::filesystem::exists(vae)) throw Error("no such VAE", vae.string());
  if (o.vae_tile == 0) return;
  if (vae.empty())
    throw Error("there is no VAE whose frames could be cut", "--vae-tile", "leave it out, or give --vae");
  Tiling(o, PixelsPerLatent(config.out_dim)[1]);
}

}  // namespace

void Sample(const SampleOptions& o) {
  const ModelParts parts = ModelParts::Inspect(o.model, o.boundary);
  const WanConfig config = WanConfig::FromFile(FindModelConfig(parts.experts.front().model));
  const std::filesystem::path vae = o.vae.empty() ? parts.vae : o.vae;
  const std::filesystem::path image_encoder = o.image_encoder.empty() ? parts.image_encoder : o.image_encoder;
  CheckBeforeLoading(o, vae, config);
  CheckImages(o, config, vae, image_encoder);
  std::vector<std::int64_t> shape = Shape(o, config);
  const TrajectoryOptions how = HowToIntegrate(o, parts);
  const bool guided = std::any_of(how.guidance.begin(), how.guidance.end(), [](double w) { return w != 1; });

  TextConditions text = LoadText(o, parts, config, shape, guided);
  AddImages(o, config, vae, image_encoder, shape, text.condition);
  const at::Tensor noise = InitialNoise(o, std::move(shape), text.condition.text.size(0));
  std::optional<ProgressLine> line;
  auto samples =
      Integrate(parts.experts, how, noise, text.condition, text.negative, [&](std::int64_t done, std::int64_t total) {
        if (!line) line.emplace("sampling", total);
        if (done > 0) line->Update(done);
      });
  line.reset();
  // The grids of diffusers and Wan tell the model a rounded time, with which a step leads almost to the picture.
  if (const at::Tensor& image = text.condition.image; image.defined() && config.may_hold_image())
    samples.back() = WithFirstFrame(samples.back(), image);

  if (!o.trajectory.empty()) SaveTrajectory(o, how.grid, samples);
  for (const auto& path : o.out) {
    if (IsPicture(path)) continue;
    SaveTensors(path, {{"latents", samples.back()}, {"noise", noise}},
                {{"sgmd.guidance", StrCat("u + ", how.guidance.front(), " (c - u)")}});
    std::cout << "latents " << path.string() << std::endl;
  }
  if (ShowsPictures(o)) WritePictures(o, vae, samples.back(), o.frame_rate.value_or(FrameRate(config.out_dim)));
}

}  // namespace sgmd
