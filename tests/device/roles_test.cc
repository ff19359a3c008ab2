// One step of all roles gives on GPUs the gradients that it gives on the CPU. Gradients, not updates: AdamW makes a
// whole step of the sign of a gradient that is nearly zero.
#include "common/config/experiment.h"
#include "pipeline/data/sample_plan.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/training/fake_score.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/teacher.h"
#include "tests/device/both_devices.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

struct RolesCase {
  const char* name;
  const char* settings;
  double bound;
};

class RolesOnAGpu : public testing::TestWithParam<RolesCase> {};

void Append(const TrainedModel& model, std::vector<at::Tensor>* gradients) {
  for (const auto& [name, p] : model.trained()) gradients->push_back(p.grad().clone());
}

// The teacher's scores, the generator's gradients, and the parameter gradients of both trained roles.
std::vector<at::Tensor> OneStep(const Experiment& e, at::Device device) {
  Teacher teacher(e, device);
  Generator generator(e, device, /*checkpoint_blocks=*/true);
  FakeScore fake(e, device, /*checkpoint_blocks=*/true);
  std::vector<at::Tensor> out;
  if (e.diversity.weight > 0) {
    const AnchorPlan anchor = PlanAnchor(e, generator.bank(), 0, 0);
    generator.AccumulateDiversity(anchor, teacher.Anchor(anchor.noise, anchor.prompts));
  }
  for (std::int64_t index = 0; index < e.data.micro_batches; ++index) {
    const SamplePlan plan = PlanSample(e, generator.bank(), 0, index);
    const Generator::Rollout rollout = generator.RollOut(plan);
    const at::Tensor x_s = AddNoise(rollout.x_g, plan.score_noise, plan.score_sigma);
    const at::Tensor velocity = teacher.Score(x_s, plan.score_sigma, plan.prompts);
    const at::Tensor gradient = fake.Gradient(rollout.x_g, x_s, plan.score_sigma, velocity, plan.prompts).gradient;
    generator.Accumulate(plan, rollout.exit, gradient);
    fake.Accumulate(0, 0, index, {rollout.x_g, plan.prompts});
    out.insert(out.end(), {velocity, gradient});
  }
  Append(generator.model(), &out);
  Append(fake.model(), &out);
  generator.Update();
  fake.Update();
  const TempFolder folder;
  generator.SaveState(folder.path());
  generator.LoadState(folder.path());
  generator.SaveStudent(folder / "student");
  return out;
}

TEST_P(RolesOnAGpu, MakeTheSameStep) {
  const TinyRun run(1, GetParam().settings);
  const Experiment experiment = run.experiment();
  ExpectTheSameOnBothDevices([&](at::Device device) { return OneStep(experiment, device); }, GetParam().bound);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, RolesOnAGpu,
    testing::Values(RolesCase{"float32", "", 1e-3}, RolesCase{"bfloat16", "[precision]\ncompute = \"bfloat16\"\n", 0.3},
                    RolesCase{"adapters", "[precision]\ncompute = \"bfloat16\"\n[lora]\nrank = 4\n", 0.3},
                    RolesCase{"diversity", "[diversity]\nweight = 0.1\nnoise_bank = 4\n", 1e-3},
                    RolesCase{"dmd2", "[objective]\nname = \"dmd2\"\n", 1e-3},
                    RolesCase{"tsg_sim", "[objective]\nname = \"tsg_sim\"\n", 1e-3},
                    RolesCase{"weights_of_the_paper",
                              "[objective]\nweighting = \"paper\"\n[schedule]\nscore_sigma_min = 0.4\n", 1e-3}),
    [](const auto& of) { return of.param.name; });

}  // namespace
}  // namespace sgmd
