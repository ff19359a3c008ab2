// What is computed: an experiment file (experiments/*.toml). In strict mode (max_staleness = 0) its content alone
// decides the weights; the topology decides only where and how fast.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/digest/digest.h"

namespace sgmd {

/// [optimizer.generator], [optimizer.fake_score]: AdamW (wan_facts §5 "Optim").
struct OptimizerConfig {
  double learning_rate = 0;       // required, > 0; reached after warm-up
  double beta1 = 0.0;             // [0,1); 0 stores no first moment
  double beta2 = 0.999;           // (0,1)
  double epsilon = 1e-8;          // > 0
  double weight_decay = 0.01;     // >= 0, decoupled
  double clip_norm = 10.0;        // > 0, global L2 norm of the gradient
  std::int64_t warmup_steps = 0;  // >= 0, linear
};

/// What the generator can be trained on (pipeline/objectives, a file each), and how many updates the fake score gets
/// per outer iteration where the experiment does not say.
struct ObjectiveName {
  const char* name;
  std::int64_t inner_updates;
};
inline constexpr ObjectiveName kObjectives[] = {{"sgmd", 1}, {"dmd2", 5}, {"tsg_fisher", 5}, {"tsg_sim", 1}};

/// Every field is a TOML key of the same name in the section named in the comment.
struct Experiment {
  std::string name;                // [experiment] name, required
  std::uint64_t seed = 1;          // [experiment] seed
  std::int64_t steps = 0;          // [experiment] steps: outer iterations, required, >= 1
  std::int64_t max_staleness = 0;  // [experiment] 0 strict, 1 pipelined

  std::filesystem::path teacher;  // [model] teacher: a model (common/storage/model_folder.h), required
  std::filesystem::path prompts;  // [model] prompts: prompt bank safetensors, required
  std::string prompt_encoder;     // [model] prompt_encoder: hex digest that the bank's encoder must have; empty: any
  double guidance = 1.0;          // [model] guidance w in u + w (c - u); required, >= 0; 1 = conditional only

  std::vector<std::int64_t> latent;  // [data] latent = [C, F, H, W], required, each >= 1
  std::int64_t micro_batch = 1;      // [data] samples per micro-batch, >= 1
  std::int64_t micro_batches = 1;    // [data] micro-batches per outer iteration, >= 1

  std::vector<std::int64_t> student_steps{1000, 750, 500, 250};  // [schedule] timesteps before the shift, descending
  std::vector<std::int64_t> exit_weights{1, 1, 1,
                                         1};  // [schedule] how often each student step is the exit step, relative
                                              // to the others, >= 0, not all 0; default: all 1
  double student_shift = 5.0;                 // [schedule] > 0
  double score_shift = 5.0;                   // [schedule] > 0
  double score_sigma_min = 0.02;              // [schedule] (0,1): score sigma is clamped to [min, max]
  double score_sigma_max = 0.98;              // [schedule] (0,1)

  std::string objective = "sgmd";      // [objective] name: one of kObjectives
  std::string weighting = "lightx2v";  // [objective] weighting: lightx2v | paper
  double lambda = 0.1;                 // [objective] lambda: negative residual of sgmd, >= 0; 0 switches it off

  std::int64_t inner_updates =
      1;  // [inner] updates R per outer iteration, >= 0 (0: the fake score stays the teacher); default: kObjectives
  std::string inner_source = "shared";  // [inner] source: shared | fresh | replay
  std::int64_t inner_max_age = 4;       // [inner] max_age of replayed samples in student versions, >= 0

  double diversity_weight = 0.0;  // [diversity] weight of the loss in pipeline/objectives/diversity.h, >= 0; 0 = off
  std::int64_t anchor_steps = 5;  // [diversity] Euler steps of the teacher to the anchor, in [1, anchor_grid]
  std::int64_t anchor_grid = 30;  // [diversity] steps of their grid, >= 1; its shift is student_shift
  std::int64_t noise_bank = 256;  // [diversity] distinct (prompt, noise) pairs, >= 1, a multiple of micro_batch

  OptimizerConfig generator_optimizer;   // [optimizer.generator]
  OptimizerConfig fake_score_optimizer;  // [optimizer.fake_score]
  double ema_decay = 0.0;                // [ema] decay in [0,1); 0 = none

  std::int64_t checkpoint_every = 50;  // [checkpoint] every: outer iterations, >= 1
  std::int64_t checkpoint_keep = 2;    // [checkpoint] keep: newest kept, >= 1

  std::string compute = "float32";  // [precision] compute: float32 | bfloat16; master weights are float32 either way
  std::int64_t lora_rank =
      0;  // [lora] rank, >= 0; 0 trains every parameter, above 0 only the adapters of the trained roles
  double lora_alpha =
      0.0;  // [lora] alpha, >= 0: adapters are scaled by alpha / rank; 0 = rank, and reading resolves it
  std::vector<std::string> lora_targets{"q", "k",     "v",
                                        "o", "ffn.0", "ffn.2"};  // [lora] targets: Linears of every block

  std::int64_t generator_threads =
      1;  // [threads] generator, >= 1: part of the experiment (bias gradients depend on it)
  std::int64_t fake_score_threads = 1;  // [threads] fake_score, >= 1

  std::int64_t rollbacks = 0;  // no key: times that the run went back to a checkpoint; makes new draws after each
};

/// Which of the model's files must be there: weights and prompts too for a run, config.json to plan one, nothing to
/// read what a finished run computed.
enum class RequiredFiles { kAll, kConfig, kNone };

/// Reads and validates; relative paths are taken from the file's folder and made absolute. Throws Error with
/// file:line:col, the line with a caret and a hint on an unknown key, wrong type, missing or out-of-range value.
Experiment LoadExperiment(const std::filesystem::path& path, RequiredFiles needed = RequiredFiles::kAll);

/// exit_weights as the samples are drawn: with the diversity loss, which trains the first step, none exits there.
std::vector<std::int64_t> ExitWeights(const Experiment& experiment);

/// The resolved experiment as TOML, every key explicit; LoadExperiment reads it back to an equal value.
std::string ToToml(const Experiment& experiment);

/// Identity of what is computed: every field that can change the weights, with the digests of the teacher's files and
/// of the prompt bank in place of their paths, without name, steps, checkpoint_*. A checkpoint of one identity is
/// refused by another.
Digest ExperimentDigest(const Experiment& experiment);

/// XXH3-128 over the files that make the model, by name (ModelFiles::identity). Large files are read once and
/// remembered by their size, mtime and inode (DigestCache). Throws Error as FindModel does.
Digest ModelDigest(const std::filesystem::path& model);

}  // namespace sgmd
