// What is computed: an experiment file (experiments/*.toml). In strict mode ([outer] max_staleness = 0) its content
// alone decides the weights; the topology decides only where and how fast.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "common/config/role.h"
#include "common/config/toml_reader.h"
#include "common/digest/digest.h"

namespace sgmd {

/// What the generator is trained on (pipeline/objectives, a file each).
enum class Objective { kSgmd, kDmd2, kTsgFisher, kTsgSim };
/// The form of the loss terms (pipeline/objectives/terms.h).
enum class Weighting { kLightx2v, kPaper };
/// Where the samples of the inner loop come from (pipeline/training/inner_samples.h).
enum class InnerSource { kShared, kFresh, kFreshAfter, kReplay, kPaired };
/// Whether the fake score makes its updates of a step after it has given the step's gradients, or before.
enum class InnerOrder { kAfter, kBefore };
/// Whether a number decides how many updates it makes in a step, or how much time it has.
enum class InnerPacing { kLocked, kFree };
/// What one exit step of the student's rollout is drawn for.
enum class ExitDraw { kMicroBatch, kStep };
/// How a rollout goes from one student step to the next: along the velocity, or from the clean estimate with new noise
/// (pipeline/training/generator.h).
enum class RolloutForm { kEuler, kRenoise };
/// Which experts of models of two are trained (pipeline/models/experts.h).
enum class TrainedExperts { kBoth, kHighNoise, kLowNoise };
/// How a learning rate goes on after its warm-up (pipeline/training/adamw.h).
enum class RateDecay { kNone, kLinear, kCosine };
/// How prompts are drawn from the bank (pipeline/data/sample_plan.h).
enum class PromptOrder { kRandom, kEpochs };
/// What Linears and attention compute in, and what scores are kept in.
enum class Compute { kFloat32, kBfloat16 };
/// What computes norms, gates, rotations and GELU: a pass over memory each, or chains of ATen (pipeline/kernels).
enum class Kernels { kFused, kReference };

/// How each value is spelled in files, in the order of the enumerators.
std::span<const char* const> SpellingsOf(Objective);
std::span<const char* const> SpellingsOf(Weighting);
std::span<const char* const> SpellingsOf(InnerSource);
std::span<const char* const> SpellingsOf(InnerOrder);
std::span<const char* const> SpellingsOf(InnerPacing);
std::span<const char* const> SpellingsOf(ExitDraw);
std::span<const char* const> SpellingsOf(RolloutForm);
std::span<const char* const> SpellingsOf(TrainedExperts);
std::span<const char* const> SpellingsOf(RateDecay);
std::span<const char* const> SpellingsOf(PromptOrder);
std::span<const char* const> SpellingsOf(Compute);
std::span<const char* const> SpellingsOf(Kernels);

/// The spelling of `value`, such as "tsg_fisher".
template <typename Enum>
const char* Spell(Enum value) {
  return SpellingsOf(value)[static_cast<std::size_t>(value)];
}

/// Whether the inner loop has rollouts of its own, before or after the student's update.
constexpr bool HasRollouts(InnerSource source) {
  return source == InnerSource::kFresh || source == InnerSource::kFreshAfter;
}

/// How many updates the fake score gets in an outer iteration where the experiment does not say.
std::int64_t DefaultInnerUpdates(Objective objective);

/// AdamW (wan_facts §5 "Optim").
struct OptimizerConfig {
  double learning_rate = 0;       // required, > 0; reached after warm-up
  double beta1 = 0.0;             // [0,1); 0 stores no first moment
  double beta2 = 0.999;           // (0,1)
  double epsilon = 1e-8;          // > 0
  double weight_decay = 0.01;     // >= 0, decoupled
  double clip_norm = 10.0;        // > 0, global L2 norm of the gradient
  std::int64_t warmup_steps = 0;  // >= 0, linear
  RateDecay decay = RateDecay::kNone;
  std::int64_t decay_steps = 0;  // the update, counted from the first, at which the decay ends; above warmup_steps
  double final_fraction = 0.0;   // [0,1] of learning_rate, from then on
};

/// [objective].
struct ObjectiveSettings {
  Objective name = Objective::kSgmd;
  Weighting weighting = Weighting::kLightx2v;
  double lambda = 0.1;      // weight of the negative residual of sgmd, >= 0; 0 switches it off
  double weight_cap = 0.0;  // of the paper's weight alpha^2 / sigma^4, >= 0; 0 leaves it as it is
  double alignment = 0.0;   // a in psi <- (1 - a) psi + a theta after the student's update, in [0, 1)
};

/// One struct a section of the file, one field a key of the same name; the [experiment] section is the struct itself.
/// What a key means, its range and its default are said once, in experiment_fields.cc; `sgmd-launch reference` prints
/// it.
struct Experiment {
  std::string name;
  std::int64_t seed = 1;
  std::int64_t steps = 0;

  struct Model {
    std::filesystem::path teacher, student, fake_score, prompts;  // empty student, fake_score: the teacher; see ModelOf
    std::string prompt_encoder;
    double guidance = 1.0, guidance_low = 0.0;  // of the low-noise expert; 0: as guidance. GuidanceOf has both
    double boundary = 0.0;  // > 0 where one of the models is two experts (common/storage/model_folder.h)
  } model;

  struct Data {
    std::vector<std::int64_t> latent;  // [C, F, H, W]
    std::int64_t micro_batch = 1, micro_batches = 1;
    PromptOrder prompt_order = PromptOrder::kRandom;
  } data;

  struct Schedule {
    std::vector<std::int64_t> student_steps{1000, 750, 500, 250}, exit_weights{1, 1, 1, 1};
    double student_shift = 5.0, score_shift = 5.0;
    double score_sigma_min = 0.02, score_sigma_max = 0.98;
    ExitDraw exit = ExitDraw::kMicroBatch;
    RolloutForm rollout = RolloutForm::kEuler;
    TrainedExperts experts = TrainedExperts::kBoth;
  } schedule;

  ObjectiveSettings objective;

  struct Outer {
    std::int64_t max_staleness = 0, reuse = 1, land = 0;
  } outer;

  struct Inner {
    std::int64_t updates = 1;
    InnerSource source = InnerSource::kShared;
    InnerOrder order = InnerOrder::kAfter;
    InnerPacing pace = InnerPacing::kLocked;
    std::int64_t min = 0, max = 4, max_age = 4;
  } inner;

  struct Diversity {
    double weight = 0.0;
    std::int64_t anchor_steps = 5, anchor_grid = 30, noise_bank = 256;
  } diversity;

  struct Optimizers {
    OptimizerConfig generator, fake_score;
  } optimizer;

  struct Ema {
    double decay = 0.0;
  } ema;

  struct Checkpoint {
    std::int64_t every = 50, keep = 2;
  } checkpoint;

  struct Precision {
    Compute compute = Compute::kFloat32, scores = Compute::kFloat32;
    bool deterministic = true;
    Kernels kernels = Kernels::kFused;
  } precision;

  struct Lora {
    std::int64_t rank = 0;
    double alpha = 0.0;
    std::vector<std::string> targets{"q", "k", "v", "o", "ffn.0", "ffn.2"};
  } lora;

  struct Threads {
    std::int64_t generator = 1, fake_score = 1;
  } threads;

  struct SequenceParallel {
    std::int64_t generator = 1, fake_score = 1;
  } sequence_parallel;

  std::int64_t rollbacks = 0;        // no key: times that the run went back to a checkpoint; makes new draws after each
  std::vector<std::int64_t> pauses;  // no key: PausesOf the run
};

/// Which of the model's files must be there: weights and prompts too for a run, config.json to plan one, nothing to
/// read what a finished run computed.
enum class RequiredFiles { kAll, kConfig, kNone };

/// Reads and validates; relative paths are taken from the file's folder and made absolute. Throws Error with
/// file:line:col, the line with a caret and a hint on an unknown key, wrong type, missing or out-of-range value.
/// `overrides` take the place of what the file says.
Experiment LoadExperiment(const std::filesystem::path& path, RequiredFiles needed = RequiredFiles::kAll,
                          const TomlOverrides& overrides = {});

/// Whether the noise levels of exit steps and scores are drawn on one side of [model] boundary for a whole iteration:
/// one of the models is two experts, of which an iteration trains one.
inline bool HasTwoExperts(const Experiment& experiment) { return experiment.model.boundary > 0; }

/// The model whose sizes the network of `role` has: of the teacher its own, of a trained role the one whose weights it
/// starts from.
const std::filesystem::path& ModelOf(const Experiment& experiment, Role role);

/// exit_weights as the samples are drawn: with the diversity loss, which trains the first step, none exits there.
std::vector<std::int64_t> ExitWeights(const Experiment& experiment);

/// The noise level of student step `step`, as StudentSigmas has it.
double StudentSigma(const Experiment::Schedule& schedule, std::size_t step);

/// The latents of a micro-batch, [micro_batch, C, F, H, W].
std::vector<std::int64_t> LatentShape(const Experiment& experiment);

/// Whether the latents are RGB pixels, as those of the embedded model: three channels, and no VAE.
inline bool LatentsArePixels(const Experiment& experiment) { return experiment.data.latent.front() == 3; }

/// How many micro-batches of an outer iteration train the generator: [outer] land, or all.
inline std::int64_t LandedMicroBatches(const Experiment& experiment) {
  return experiment.outer.land > 0 ? experiment.outer.land : experiment.data.micro_batches;
}

/// Updates of the fake score in an outer iteration; of a free pace the most that it may make.
inline std::int64_t MostInnerUpdates(const Experiment& experiment) {
  return experiment.inner.pace == InnerPacing::kFree ? experiment.inner.max : experiment.inner.updates;
}

/// The step whose scored samples the generator is trained on in `step`: with [outer] reuse = U each is used in U steps,
/// and only every U-th step rolls out and asks the teachers.
inline std::int64_t RolloutStepOf(const Experiment& experiment, std::int64_t step) {
  return step - step % experiment.outer.reuse;
}
inline bool RollsOut(const Experiment& experiment, std::int64_t step) {
  return RolloutStepOf(experiment, step) == step;
}

/// The resolved experiment as TOML, every key explicit; LoadExperiment reads it back to an equal value.
std::string ToToml(const Experiment& experiment);

/// Identity of what is computed: every field that can change the weights, with the digests of the models' files and of
/// the prompt bank in place of their paths, without name, steps, checkpoint. A checkpoint of one identity is
/// refused by another.
Digest ExperimentDigest(const Experiment& experiment);

/// XXH3-128 over the files that make the model, by name (ModelFiles::identity), of each of its experts. Large files are
/// read once and remembered by their size, mtime and inode (DigestCache). Throws Error as FindExperts and FindModel do.
Digest ModelDigest(const std::filesystem::path& model);

}  // namespace sgmd
