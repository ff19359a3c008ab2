#include "pipeline/training/generator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>

#include "common/config/role.h"
#include "common/storage/checkpoint_layout.h"
#include "pipeline/device/host_copy.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/objectives/diversity.h"
#include "pipeline/training/role_model.h"

namespace sgmd {
namespace {

constexpr Role kRole = Role::kGenerator;

}  // namespace

Generator::Generator(const Experiment& experiment, at::Device device, Recomputation recompute, const RankGroup& group)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      group_(group),
      model_(TrainedModel::Start(experiment, device, recompute, kRole, group_)),
      files_(Spell(kRole), group_.rank(), group_.ranks(), model_->Places()),
      sigmas_(StudentSigmas(experiment.schedule.student_steps, experiment.schedule.student_shift)),
      optimizer_(*model_, experiment.optimizer.generator, experiment.precision.kernels, experiment.ema.decay) {
  RequireFits(bank_, model_->config(), experiment.data.latent);
}

// The input of the exit step, from the steps before it.
at::Tensor Generator::ExitInput(const SamplePlan& plan) {
  const at::Tensor noise = plan.noise.to(model_->device());
  if (plan.exit_step == 0) return noise;
  work_.forward += plan.exit_step * noise.size(0);
  const std::vector<double> sigmas(sigmas_.begin(), sigmas_.begin() + plan.exit_step + 1);
  const Conditioning condition = ConditionOn(plan.prompts, bank_, *model_);
  if (experiment_.schedule.rollout == RolloutForm::kEuler)
    return EulerSample(*model_, noise, sigmas, condition, {}, 1.0);
  const auto step_noise = [&](std::int64_t step) { return plan.step_noise.at(step - 1).to(model_->device()); };
  return RenoiseSample(*model_, noise, sigmas, step_noise, condition, {}, 1.0);
}

at::Tensor Generator::ExitStep(const SamplePlan& plan, const at::Tensor& x_exit) {
  const at::Tensor sigma = at::full({x_exit.size(0)}, sigmas_[plan.exit_step], x_exit.options());
  work_.forward += x_exit.size(0);
  return CleanFromVelocity(x_exit, model_->Forward(x_exit, sigma, ConditionOn(plan.prompts, bank_, *model_)), sigma);
}

Generator::Rollout Generator::RollOut(const SamplePlan& plan, bool keep_graph, std::int64_t passes) {
  c10::NoGradGuard no_grad;
  const at::Tensor x = ExitInput(plan);
  for (std::int64_t pass = plan.exit_step; pass < passes; ++pass) model_->SkipForward(sigmas_[pass]);
  const c10::AutoGradMode mode(keep_graph);
  const at::Tensor x_g = ExitStep(plan, x);
  return {{x, keep_graph ? x_g : at::Tensor()}, ToHost(x_g)};
}

void Generator::Accumulate(const SamplePlan& plan, const Exit& exit, const at::Tensor& gradient) {
  const at::Tensor x_g = exit.x_g.defined() ? exit.x_g : ExitStep(plan, exit.x);
  CountTrainingBackward(*model_, exit.x.size(0), work_);
  x_g.backward(gradient.to(model_->device()) / static_cast<double>(LandedMicroBatches(experiment_)));
}

double Generator::AccumulateDiversity(const AnchorPlan& plan, const at::Tensor& x_a) {
  const at::Device device = model_->device();
  const double sigma_a = AnchorSigmas(experiment_.diversity.anchor_steps, experiment_.diversity.anchor_grid,
                                      experiment_.schedule.student_shift)
                             .back();
  const at::Tensor loss =
      DiversityLoss(*model_, plan.noise.to(device), AnchorTarget(plan.noise, x_a, sigma_a).to(device),
                    ConditionOn(plan.prompts, bank_, *model_), experiment_.diversity.weight);
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_a.size(0);
  CountTrainingBackward(*model_, x_a.size(0), work_);
  return loss.item<double>();
}

AdamW::StepReport Generator::Update() { return optimizer_.Step(); }

std::vector<std::string> Generator::SaveState(const std::filesystem::path& folder) const {
  std::vector<std::string> names{files_.Save(folder, kModelState, model_->trained()),
                                 files_.Save(folder, kOptimizerState, optimizer_.State())};
  if (optimizer_.averages()) names.push_back(files_.Save(folder, kAverageState, optimizer_.AverageState()));
  return names;
}

void Generator::LoadState(const std::filesystem::path& folder) {
  files_.Load(folder, kModelState, model_->trained());
  optimizer_.LoadState([&](const NamedTensors& state) { files_.Load(folder, kOptimizerState, state); });
  if (optimizer_.averages())
    optimizer_.LoadAverageState([&](const NamedTensors& state) { files_.Load(folder, kAverageState, state); });
}

void Generator::SaveStudent(const std::filesystem::path& folder) const {
  NamedTensors weights;
  model_->ForEachWhole(optimizer_.Best(), [&](const std::string& name, const at::Tensor& whole) {
    if (group_.rank() == 0) weights.emplace_back(name, whole.to(at::kCPU));
  });
  if (group_.rank() != 0) return;
  std::filesystem::create_directories(folder);
  for (const auto& [expert, held] : ExpertsOf(experiment_, kRole)) {
    if (held == Held::kTrained) {
      SaveExpert(expert, weights, folder / expert.name);
    } else {
      std::filesystem::remove(folder / expert.name);  // of an attempt that was cut short
      std::filesystem::create_directory_symlink(std::filesystem::canonical(expert.model), folder / expert.name);
    }
  }
}

void Generator::SaveExpert(const Expert& expert, const NamedTensors& weights,
                           const std::filesystem::path& folder) const {
  const std::string prefix = PrefixOf(expert);
  std::map<std::string, at::Tensor> own;
  for (const auto& [name, tensor] : weights) {
    if (name.starts_with(prefix)) own.emplace(name.substr(prefix.size()), tensor);
  }
  // On the CPU in float32; the base of adapters is read again, as this role may hold it in bfloat16.
  WanTransformer student =
      model_->adapted() ? WanTransformer::Load(expert.model, at::kCPU) : WanTransformer(model_->config(), at::kCPU);
  if (model_->adapted()) {
    MergeLora(student, {own.begin(), own.end()}, LoraOf(experiment_).Scale());
  } else {
    const c10::NoGradGuard no_grad;
    for (const auto& [name, parameter] : student.parameters()) at::Tensor(parameter).copy_(own.at(name));
  }
  std::filesystem::create_directories(folder);
  student.Save(folder, {{"sgmd.experiment", ExperimentDigest(experiment_).Hex()},
                        {"sgmd.weights", optimizer_.averages() ? "ema" : "raw"},
                        {"sgmd.updates", std::to_string(optimizer_.StepsOf(prefix))}});
}

}  // namespace sgmd
