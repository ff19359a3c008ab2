#include "pipeline/training/fake_score.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/checkpoint_layout.h"
#include "pipeline/data/sample_plan.h"
#include "pipeline/device/host_copy.h"
#include "pipeline/objectives/objective_cost.h"
#include "pipeline/objectives/shared_pass.h"
#include "pipeline/objectives/terms.h"
#include "pipeline/training/role_model.h"

namespace sgmd {
namespace {

constexpr Role kRole = Role::kFakeScore;

void WarnOfUncappedWeight(const Experiment& e) {
  const ObjectiveSettings& o = e.objective;
  if (o.weighting != Weighting::kPaper || o.weight_cap > 0 || o.name == Objective::kDmd2) return;
  const double low = e.schedule.score_sigma_min, high = e.schedule.score_sigma_max;
  const at::Tensor weights = PaperWeight(at::tensor({low, high}, at::kDouble), 0);
  LogWarning("weighting = \"paper\" without weight_cap: at sigma ", low, " a sample weighs ",
             (weights[0] / weights[1]).item<double>(), " times as much as at ", high);
}

}  // namespace

FakeScore::FakeScore(const Experiment& experiment, at::Device device, Recomputation recompute, const RankGroup& group)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      group_(group),
      model_(TrainedModel::Start(experiment, device, recompute, kRole, group_)),
      files_(Spell(kRole), group_.rank(), group_.ranks(), model_->Places()),
      optimizer_(*model_, experiment.optimizer.fake_score, experiment.precision.kernels),
      samples_(experiment) {
  RequireFits(bank_, model_->config(), experiment.data.latent);
  WarnOfUncappedWeight(experiment);
}

ScoredSample FakeScore::OnDevice(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                                 const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) const {
  const at::Device device = model_->device();
  return {x_g.to(device), x_s.to(device), sigma.to(device), teacher_velocity.to(device, at::kFloat),
          ConditionOn(prompts, bank_, *model_)};
}

void FakeScore::CountInputBackward(std::int64_t samples) {
  if (!DifferentiatesFakeScore(experiment_.objective.name)) return;
  work_.backward_input += samples;
  if (model_->recomputes()) work_.recomputed += samples;
}

GeneratorGradient FakeScore::Gradient(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                                      const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) {
  model_->SetRequiresGrad(false);
  GeneratorGradient result =
      ComputeGeneratorGradient(experiment_.objective, *model_, OnDevice(x_g, x_s, sigma, teacher_velocity, prompts));
  work_.forward += x_g.size(0);
  CountInputBackward(x_g.size(0));
  result.gradient = ToHost(result.gradient);
  return result;
}

FakeScore::Pair FakeScore::GradientAndAccumulate(std::int64_t step, std::int64_t index, const at::Tensor& x_g,
                                                 const at::Tensor& x_s, const at::Tensor& sigma,
                                                 const at::Tensor& teacher_velocity,
                                                 const std::vector<Digest>& prompts) {
  model_->SetRequiresGrad(true);
  const ScoredSample sample = OnDevice(x_g, x_s, sigma, teacher_velocity, prompts);
  const at::Tensor noise = PlanSample(experiment_, bank_, step, index).score_noise.to(model_->device());
  const SharedPass pass(*model_);
  Pair result{ComputeGeneratorGradient(experiment_.objective, pass, sample)};
  const at::Tensor loss = ResidualContractionLoss(pass.velocity(), sample.x_s, sample.x_g, sample.sigma, noise,
                                                  experiment_.objective.weighting);
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_g.size(0);
  CountInputBackward(x_g.size(0));
  CountTrainingBackward(*model_, x_g.size(0), work_);
  result.generator.gradient = ToHost(result.generator.gradient);
  result.inner_loss = loss.item<double>();
  return result;
}

double FakeScore::Accumulate(std::int64_t step, std::int64_t update, std::int64_t index, const InnerSample& sample) {
  const auto& [x_g, prompts] = sample;
  const InnerPlan plan = PlanInner(experiment_, step, index, update);
  const at::Device device = model_->device();
  model_->SetRequiresGrad(true);
  const at::Tensor loss =
      ResidualContractionLoss(*model_, x_g.to(device), plan.sigma.to(device), plan.noise.to(device),
                              ConditionOn(prompts, bank_, *model_), experiment_.objective.weighting);
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_g.size(0);
  CountTrainingBackward(*model_, x_g.size(0), work_);
  return loss.item<double>();
}

void FakeScore::Align(const NamedTensors& student) {
  std::size_t own = 0;
  for (const auto& [parameter, slices] : files_.places()) own += slices.size();
  if (own != student.size())
    throw Error(StrCat("the fake score cannot be aligned with ", student.size(), " tensors: it has ", own));
  for (const auto& [name, theta] : student) AlignOne(name, theta);
}

void FakeScore::AlignOne(const std::string& name, const at::Tensor& theta) {
  c10::NoGradGuard no_grad;
  for (const auto& [parameter, psi] : model_->trained()) {
    for (const Slice& slice : files_.places().at(parameter)) {
      if (slice.name != name) continue;
      if (theta.sizes() != at::IntArrayRef(slice.shape)) {
        throw Error(StrCat("the fake score's ", name, " ", at::IntArrayRef(slice.shape),
                           " cannot be aligned with the student's, which is ", theta.sizes()));
      }
      const at::Tensor part = theta.reshape({-1}).narrow(0, slice.offset, slice.count).to(psi.device());
      psi.view({-1}).narrow(0, slice.at, slice.count).lerp_(part, experiment_.objective.alignment);
      return;
    }
  }
  throw Error(StrCat("the fake score cannot be aligned with the student's ", name, ": it has none"));
}

AdamW::StepReport FakeScore::Update() { return optimizer_.Step(); }

std::vector<std::string> FakeScore::SaveState(const std::filesystem::path& folder) const {
  std::vector<std::string> names{files_.Save(folder, kModelState, model_->trained()),
                                 files_.Save(folder, kOptimizerState, optimizer_.State())};
  const NamedTensors samples = group_.rank() == 0 ? samples_.State() : NamedTensors{};
  if (!samples.empty()) {
    names.push_back(StateFileName(Spell(kRole), kSamplesState));
    SaveTensors(folder / names.back(), samples);
  }
  return names;
}

void FakeScore::LoadState(const std::filesystem::path& folder) {
  files_.Load(folder, kModelState, model_->trained());
  optimizer_.LoadState([&](const NamedTensors& state) { files_.Load(folder, kOptimizerState, state); });
  const auto samples = folder / StateFileName(Spell(kRole), kSamplesState);
  if (group_.rank() == 0 && std::filesystem::exists(samples)) samples_.LoadState(SafetensorsFile::Open(samples));
}

}  // namespace sgmd
