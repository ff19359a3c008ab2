#include "pipeline/training/fake_score.h"

#include <ATen/ATen.h>

#include "pipeline/data/sample_plan.h"
#include "pipeline/objectives/terms.h"
#include "pipeline/training/role_model.h"

namespace sgmd {

FakeScore::FakeScore(const Experiment& experiment, at::Device device, bool checkpoint_blocks)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      model_(TrainableModel(experiment, device, checkpoint_blocks, "fake_score")),
      optimizer_(model_.trained(), experiment.optimizer.fake_score),
      samples_(experiment) {
  RequireFits(bank_, model_);
}

GeneratorGradient FakeScore::Gradient(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                                      const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) {
  const at::Device device = model_.device();
  model_.SetRequiresGrad(false);
  GeneratorGradient result =
      ComputeGeneratorGradient(experiment_.objective, model_,
                               {x_g.to(device), x_s.to(device), sigma.to(device), teacher_velocity.to(device),
                                ConditionOn(prompts, bank_, model_)});
  work_.forward += x_g.size(0);
  if (DifferentiatesFakeScore(experiment_.objective.name)) {
    work_.backward_input += x_g.size(0);
    if (model_.block_checkpointing()) work_.recomputed += x_g.size(0);
  }
  result.gradient = result.gradient.to(at::kCPU).contiguous();
  return result;
}

double FakeScore::Accumulate(std::int64_t step, std::int64_t update, std::int64_t index) {
  const auto& [x_g, prompts] = samples_.For(step, update, index);
  const InnerPlan plan = PlanInner(experiment_, step, index, update);
  const at::Device device = model_.device();
  model_.SetRequiresGrad(true);
  const at::Tensor loss = ResidualContractionLoss(model_, x_g.to(device), plan.sigma.to(device), plan.noise.to(device),
                                                  ConditionOn(prompts, bank_, model_));
  (loss / static_cast<double>(experiment_.data.micro_batches)).backward();
  work_.forward += x_g.size(0);
  CountTrainingBackward(model_, x_g.size(0), work_);
  return loss.item<double>();
}

AdamW::StepReport FakeScore::Update() { return optimizer_.Step(); }

std::vector<std::string> FakeScore::SaveState(const std::filesystem::path& folder) const {
  std::vector<std::string> names;
  SaveAs(folder, "fake_score.model.safetensors", model_.trained(), &names);
  SaveAs(folder, "fake_score.optimizer.safetensors", optimizer_.State(), &names);
  if (const NamedTensors samples = samples_.State(); !samples.empty()) {
    SaveAs(folder, "fake_score.samples.safetensors", samples, &names);
  }
  return names;
}

void FakeScore::LoadState(const std::filesystem::path& folder) {
  LoadTensors(SafetensorsFile::Open(folder / "fake_score.model.safetensors"), model_.trained());
  optimizer_.LoadState(SafetensorsFile::Open(folder / "fake_score.optimizer.safetensors"));
  if (const auto samples = folder / "fake_score.samples.safetensors"; std::filesystem::exists(samples)) {
    samples_.LoadState(SafetensorsFile::Open(samples));
  }
}

}  // namespace sgmd
