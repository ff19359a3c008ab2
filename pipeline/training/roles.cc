#include "pipeline/training/roles.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/lora.h"
#include "pipeline/objectives/diversity.h"
#include "pipeline/objectives/objective_cost.h"
#include "pipeline/objectives/terms.h"

namespace sgmd {
namespace {

// With bfloat16 what is frozen is also kept in it; what is trained keeps float32 masters.
WanPrecision PrecisionOf(const Experiment& experiment, bool frozen) {
  if (experiment.precision.compute == Compute::kFloat32) return at::kFloat;
  return {frozen ? at::kBFloat16 : at::kFloat, at::kBFloat16};
}

// The model of a trained role: all of it trainable, or with [lora] adapters over a frozen base.
WanTransformer Trainable(const Experiment& e, at::Device device, bool checkpoint_blocks, std::string_view role) {
  const bool adapted = e.lora.rank > 0;
  WanTransformer model = WanTransformer::Load(e.model.teacher, device, PrecisionOf(e, adapted));
  if (adapted) model = model.WithAdapters(LoraOf(e), SeedFor(e.seed, 0, 0, role));
  model.SetBlockCheckpointing(checkpoint_blocks);
  model.SetRequiresGrad(true);
  return model;
}

void CountTrainingBackward(const WanTransformer& model, std::int64_t samples, Work& work) {
  (model.adapters().empty() ? work.backward_full : work.backward_input) += samples;
  if (model.block_checkpointing()) work.recomputed += samples;
}

void RequireFits(const PromptBank& bank, const WanTransformer& model) {
  bank.RequireFits(model.config().text_dim, model.config().text_len);
}

void SaveAs(const std::filesystem::path& folder, const std::string& name, const NamedTensors& tensors,
            std::vector<std::string>* names) {
  SaveTensors(folder / name, tensors);
  names->push_back(name);
}

}  // namespace

Teacher::Teacher(const Experiment& experiment, at::Device device)
    : bank_(PromptBank::Open(experiment.model.prompts)),
      model_(WanTransformer::Load(experiment.model.teacher, device, PrecisionOf(experiment, /*frozen=*/true))),
      guidance_(experiment.model.guidance),
      anchor_sigmas_(AnchorSigmas(experiment.diversity.anchor_steps, experiment.diversity.anchor_grid,
                                  experiment.schedule.student_shift)) {
  RequireFits(bank_, model_);
}

at::Tensor Teacher::Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts) {
  c10::NoGradGuard no_grad;
  const std::int64_t batch = x_s.size(0), text_len = model_.config().text_len;
  work_.forward += guidance_ == 1.0 ? batch : 2 * batch;
  const at::Device device = model_.device();
  return GuidedVelocity(model_, x_s.to(device), sigma.to(device), bank_.Gather(prompts, text_len).to(device),
                        bank_.GatherNegative(batch, text_len).to(device), guidance_)
      .to(at::kCPU)
      .contiguous();
}

at::Tensor Teacher::Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts) {
  const std::int64_t batch = noise.size(0), text_len = model_.config().text_len;
  const auto steps = static_cast<std::int64_t>(anchor_sigmas_.size()) - 1;
  work_.forward += (guidance_ == 1.0 ? batch : 2 * batch) * steps;
  const at::Device device = model_.device();
  return EulerSample(model_, noise.to(device), anchor_sigmas_, bank_.Gather(prompts, text_len).to(device),
                     bank_.GatherNegative(batch, text_len).to(device), guidance_)
      .to(at::kCPU)
      .contiguous();
}

Generator::Generator(const Experiment& experiment, at::Device device, bool checkpoint_blocks)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      model_(Trainable(experiment, device, checkpoint_blocks, "generator")),
      sigmas_(StudentSigmas(experiment.schedule.student_steps, experiment.schedule.student_shift)),
      optimizer_(model_.trained(), experiment.optimizer.generator) {
  RequireFits(bank_, model_);
  if (experiment.ema.decay > 0) ema_.emplace(model_.trained(), experiment.ema.decay);
}

at::Tensor Generator::Context(const SamplePlan& plan) const {
  return bank_.Gather(plan.prompts, model_.config().text_len).to(model_.device());
}

at::Tensor Generator::ExitStep(const SamplePlan& plan, const at::Tensor& x_exit) {
  const at::Tensor sigma = at::full({x_exit.size(0)}, sigmas_[plan.exit_step], x_exit.options());
  work_.forward += x_exit.size(0);
  return CleanFromVelocity(x_exit, model_.Forward(x_exit, sigma, Context(plan)), sigma);
}

Generator::Rollout Generator::RollOut(const SamplePlan& plan) {
  c10::NoGradGuard no_grad;
  at::Tensor x = plan.noise.to(model_.device());
  if (plan.exit_step > 0) {
    const std::vector<double> sigmas(sigmas_.begin(), sigmas_.begin() + plan.exit_step + 1);
    x = EulerSample(model_, x, sigmas, Context(plan), {}, 1.0);
    work_.forward += plan.exit_step * x.size(0);
  }
  return {x, ExitStep(plan, x).to(at::kCPU).contiguous()};
}

void Generator::Accumulate(const SamplePlan& plan, const at::Tensor& x_exit, const at::Tensor& gradient) {
  const at::Tensor x_g = ExitStep(plan, x_exit);
  CountTrainingBackward(model_, x_exit.size(0), work_);
  x_g.backward(gradient.to(model_.device()) / static_cast<double>(experiment_.data.micro_batches));
}

double Generator::AccumulateDiversity(const AnchorPlan& plan, const at::Tensor& x_a) {
  const at::Device device = model_.device();
  const double sigma_a = AnchorSigmas(experiment_.diversity.anchor_steps, experiment_.diversity.anchor_grid,
                                      experiment_.schedule.student_shift)
                             .back();
  const at::Tensor context = bank_.Gather(plan.prompts, model_.config().text_len).to(device);
  const at::Tensor loss =
      DiversityLoss(model_, plan.noise.to(device), AnchorTarget(plan.noise, x_a, sigma_a).to(device), context,
                    experiment_.diversity.weight);
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
  SaveAs(folder, "generator.model.safetensors", model_.trained(), &names);
  SaveAs(folder, "generator.optimizer.safetensors", optimizer_.State(), &names);
  if (ema_) SaveAs(folder, "generator.ema.safetensors", ema_->State(), &names);
  return names;
}

void Generator::LoadState(const std::filesystem::path& folder) {
  LoadTensors(SafetensorsFile::Open(folder / "generator.model.safetensors"), model_.trained());
  optimizer_.LoadState(SafetensorsFile::Open(folder / "generator.optimizer.safetensors"));
  if (ema_) ema_->LoadState(SafetensorsFile::Open(folder / "generator.ema.safetensors"));
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

FakeScore::FakeScore(const Experiment& experiment, at::Device device, bool checkpoint_blocks)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      model_(Trainable(experiment, device, checkpoint_blocks, "fake_score")),
      optimizer_(model_.trained(), experiment.optimizer.fake_score),
      samples_(experiment) {
  RequireFits(bank_, model_);
}

at::Tensor FakeScore::Context(const std::vector<Digest>& prompts) const {
  return bank_.Gather(prompts, model_.config().text_len).to(model_.device());
}

GeneratorGradient FakeScore::Gradient(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                                      const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) {
  const at::Device device = model_.device();
  model_.SetRequiresGrad(false);
  GeneratorGradient result = ComputeGeneratorGradient(
      experiment_.objective, model_,
      {x_g.to(device), x_s.to(device), sigma.to(device), teacher_velocity.to(device), Context(prompts)});
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
  const at::Tensor loss =
      ResidualContractionLoss(model_, x_g.to(device), plan.sigma.to(device), plan.noise.to(device), Context(prompts));
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
