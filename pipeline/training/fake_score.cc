#include "pipeline/training/fake_score.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/checkpoint_layout.h"
#include "pipeline/data/sample_plan.h"
#include "pipeline/objectives/objective_cost.h"
#include "pipeline/objectives/shared_pass.h"
#include "pipeline/objectives/terms.h"
#include "pipeline/training/role_model.h"

namespace sgmd {
namespace {

constexpr const char* kRole = Spell(Role::kFakeScore);

void WarnOfUncappedWeight(const Experiment& e) {
  const ObjectiveSettings& o = e.objective;
  if (o.weighting != Weighting::kPaper || o.weight_cap > 0 || o.name == Objective::kDmd2) return;
  const double low = e.schedule.score_sigma_min, high = e.schedule.score_sigma_max;
  const at::Tensor weights = PaperWeight(at::tensor({low, high}, at::kDouble), 0);
  LogWarning("weighting = \"paper\" without weight_cap: at sigma ", low, " a sample weighs ",
             (weights[0] / weights[1]).item<double>(), " times as much as at ", high);
}

}  // namespace

FakeScore::FakeScore(const Experiment& experiment, at::Device device, bool checkpoint_blocks)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      model_(TrainableModel(experiment, device, checkpoint_blocks, kRole)),
      optimizer_(model_.trained(), experiment.optimizer.fake_score),
      samples_(experiment) {
  RequireFits(bank_, model_);
  WarnOfUncappedWeight(experiment);
}

ScoredSample FakeScore::OnDevice(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                                 const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) const {
  const at::Device device = model_.device();
  return {x_g.to(device), x_s.to(device), sigma.to(device), teacher_velocity.to(device, at::kFloat),
          ConditionOn(prompts, bank_, model_)};
}

void FakeScore::CountInputBackward(std::int64_t samples) {
  if (!DifferentiatesFakeScore(experiment_.objective.name)) return;
  work_.backward_input += samples;
  if (model_.block_checkpointing()) work_.recomputed += samples;
}

GeneratorGradient FakeScore::Gradient(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                                      const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) {
  model_.SetRequiresGrad(false);
  GeneratorGradient result =
      ComputeGeneratorGradient(experiment_.objective, model_, OnDevice(x_g, x_s, sigma, teacher_velocity, prompts));
  work_.forward += x_g.size(0);
  CountInputBackward(x_g.size(0));
  result.gradient = result.gradient.to(at::kCPU).contiguous();
  return result;
}

FakeScore::Pair FakeScore::GradientAndAccumulate(std::int64_t step, std::int64_t index, const at::Tensor& x_g,
                                                 const at::Tensor& x_s, const at::Tensor& sigma,
                                                 const at::Tensor& teacher_velocity,
                                                 const std::vector<Digest>& prompts) {
  model_.SetRequiresGrad(true);
  const ScoredSample sample = OnDevice(x_g, x_s, sigma, teacher_velocity, prompts);
  const at::Tensor noise = PlanSample(experiment_, bank_, step, index).score_noise.to(model_.device());
  const SharedPass pass(model_);
  Pair result{ComputeGeneratorGradient(experiment_.objective, pass, sample)};
  const at::Tensor loss = ResidualContractionLoss(pass.velocity(), sample.x_s, sample.x_g, sample.sigma, noise,
                                                  experiment_.objective.weighting);
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_g.size(0);
  CountInputBackward(x_g.size(0));
  CountTrainingBackward(model_, x_g.size(0), work_);
  result.generator.gradient = result.generator.gradient.to(at::kCPU).contiguous();
  result.inner_loss = loss.item<double>();
  return result;
}

double FakeScore::Accumulate(std::int64_t step, std::int64_t update, std::int64_t index, std::int64_t newest) {
  const auto& [x_g, prompts] = samples_.For(step, update, index, newest);
  const InnerPlan plan = PlanInner(experiment_, step, index, update);
  const at::Device device = model_.device();
  model_.SetRequiresGrad(true);
  const at::Tensor loss = ResidualContractionLoss(model_, x_g.to(device), plan.sigma.to(device), plan.noise.to(device),
                                                  ConditionOn(prompts, bank_, model_), experiment_.objective.weighting);
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_g.size(0);
  CountTrainingBackward(model_, x_g.size(0), work_);
  return loss.item<double>();
}

void FakeScore::Align(const NamedTensors& student) {
  const NamedTensors& own = model_.trained();
  if (student.size() != own.size()) {
    throw Error(StrCat("the fake score cannot be aligned with ", student.size(), " tensors: it has ", own.size()));
  }
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const auto& [name, psi] = own[i];
    const auto& [student_name, theta] = student[i];
    if (student_name != name || theta.sizes() != psi.sizes()) {
      throw Error(StrCat("the fake score's ", name, " ", psi.sizes(), " cannot be aligned with the student's ",
                         student_name, " ", theta.sizes()));
    }
    psi.lerp_(theta.to(psi.device()), experiment_.objective.alignment);
  }
}

AdamW::StepReport FakeScore::Update() { return optimizer_.Step(); }

std::vector<std::string> FakeScore::SaveState(const std::filesystem::path& folder) const {
  std::vector<std::string> names;
  SaveAs(folder, StateFileName(kRole, kModelState), model_.trained(), &names);
  SaveAs(folder, StateFileName(kRole, kOptimizerState), optimizer_.State(), &names);
  if (const NamedTensors samples = samples_.State(); !samples.empty()) {
    SaveAs(folder, StateFileName(kRole, kSamplesState), samples, &names);
  }
  return names;
}

void FakeScore::LoadState(const std::filesystem::path& folder) {
  LoadTensors(SafetensorsFile::Open(folder / StateFileName(kRole, kModelState)), model_.trained());
  optimizer_.LoadState(SafetensorsFile::Open(folder / StateFileName(kRole, kOptimizerState)));
  if (const auto samples = folder / StateFileName(kRole, kSamplesState); std::filesystem::exists(samples)) {
    samples_.LoadState(SafetensorsFile::Open(samples));
  }
}

}  // namespace sgmd
