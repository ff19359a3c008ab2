#include "pipeline/training/generator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "common/config/role.h"
#include "common/storage/checkpoint_layout.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/lora.h"
#include "pipeline/objectives/diversity.h"
#include "pipeline/training/role_model.h"

namespace sgmd {
namespace {

constexpr const char* kRole = Spell(Role::kGenerator);

}  // namespace

Generator::Generator(const Experiment& experiment, at::Device device, bool checkpoint_blocks)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      model_(TrainableModel(experiment, device, checkpoint_blocks, kRole)),
      sigmas_(StudentSigmas(experiment.schedule.student_steps, experiment.schedule.student_shift)),
      optimizer_(model_.trained(), experiment.optimizer.generator) {
  RequireFits(bank_, model_);
  if (experiment.ema.decay > 0) ema_.emplace(model_.trained(), experiment.ema.decay);
}

at::Tensor Generator::ExitStep(const SamplePlan& plan, const at::Tensor& x_exit) {
  const at::Tensor sigma = at::full({x_exit.size(0)}, sigmas_[plan.exit_step], x_exit.options());
  work_.forward += x_exit.size(0);
  return CleanFromVelocity(x_exit, model_.Forward(x_exit, sigma, ConditionOn(plan.prompts, bank_, model_)), sigma);
}

Generator::Rollout Generator::RollOut(const SamplePlan& plan, bool keep_graph) {
  c10::NoGradGuard no_grad;
  at::Tensor x = plan.noise.to(model_.device());
  if (plan.exit_step > 0) {
    const std::vector<double> sigmas(sigmas_.begin(), sigmas_.begin() + plan.exit_step + 1);
    x = EulerSample(model_, x, sigmas, ConditionOn(plan.prompts, bank_, model_), {}, 1.0);
    work_.forward += plan.exit_step * x.size(0);
  }
  const c10::AutoGradMode mode(keep_graph);
  const at::Tensor x_g = ExitStep(plan, x);
  return {{x, keep_graph ? x_g : at::Tensor()}, x_g.detach().to(at::kCPU).contiguous()};
}

void Generator::Accumulate(const SamplePlan& plan, const Exit& exit, const at::Tensor& gradient) {
  const at::Tensor x_g = exit.x_g.defined() ? exit.x_g : ExitStep(plan, exit.x);
  CountTrainingBackward(model_, exit.x.size(0), work_);
  x_g.backward(gradient.to(model_.device()) / static_cast<double>(LandedMicroBatches(experiment_)));
}

double Generator::AccumulateDiversity(const AnchorPlan& plan, const at::Tensor& x_a) {
  const at::Device device = model_.device();
  const double sigma_a = AnchorSigmas(experiment_.diversity.anchor_steps, experiment_.diversity.anchor_grid,
                                      experiment_.schedule.student_shift)
                             .back();
  const at::Tensor loss =
      DiversityLoss(model_, plan.noise.to(device), AnchorTarget(plan.noise, x_a, sigma_a).to(device),
                    ConditionOn(plan.prompts, bank_, model_), experiment_.diversity.weight);
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_a.size(0);
  CountTrainingBackward(model_, x_a.size(0), work_);
  return loss.item<double>();
}

AdamW::StepReport Generator::Update() {
  const AdamW::StepReport report = optimizer_.Step();
  if (ema_ && !report.skipped) ema_->Update(model_.trained());
  return report;
}

std::vector<std::string> Generator::SaveState(const std::filesystem::path& folder) const {
  std::vector<std::string> names;
  SaveAs(folder, StateFileName(kRole, kModelState), model_.trained(), &names);
  SaveAs(folder, StateFileName(kRole, kOptimizerState), optimizer_.State(), &names);
  if (ema_) SaveAs(folder, StateFileName(kRole, kAverageState), ema_->State(), &names);
  return names;
}

void Generator::LoadState(const std::filesystem::path& folder) {
  LoadTensors(SafetensorsFile::Open(folder / StateFileName(kRole, kModelState)), model_.trained());
  optimizer_.LoadState(SafetensorsFile::Open(folder / StateFileName(kRole, kOptimizerState)));
  if (ema_) ema_->LoadState(SafetensorsFile::Open(folder / StateFileName(kRole, kAverageState)));
}

void Generator::SaveStudent(const std::filesystem::path& folder) const {
  std::filesystem::create_directories(folder);
  const NamedTensors& weights = ema_ ? ema_->average() : model_.trained();
  const bool adapted = experiment_.lora.rank > 0;
  // On the CPU in float32; the base of adapters is read again, as this role may hold it in bfloat16.
  WanTransformer student =
      adapted ? WanTransformer::Load(experiment_.model.teacher, at::kCPU) : WanTransformer(model_.config(), at::kCPU);
  if (adapted) MergeLora(student, weights, LoraOf(experiment_).Scale());
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; !adapted && i < weights.size(); ++i) student.parameters()[i].second.copy_(weights[i].second);
  student.Save(folder, {{"sgmd.experiment", ExperimentDigest(experiment_).Hex()},
                        {"sgmd.weights", ema_ ? "ema" : "raw"},
                        {"sgmd.updates", std::to_string(optimizer_.steps())}});
}

}  // namespace sgmd
