#include "common/config/experiment.h"

#include <algorithm>
#include <limits>

#include "common/config/toml_reader.h"
#include "common/config/toml_writer.h"
#include "common/error/error.h"
#include "common/storage/digest_cache.h"
#include "common/storage/model_folder.h"
#include "common/storage/safetensors.h"

namespace sgmd {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr NumberRange kPositive{0, kInfinity, true, true};
constexpr NumberRange kNotNegative{0, kInfinity, false, true};
constexpr NumberRange kCount{1, 1e15};
constexpr NumberRange kCountOrZero{0, 1e15};
constexpr NumberRange kBeta{0, 1, false, true};
constexpr NumberRange kOpenUnit{0, 1, true, true};

// [precision] and [lora].
void ReadPrecision(TomlTable root, Experiment& e) {
  e.compute = root.Table("precision").Choice("compute", {"float32", "bfloat16"}, e.compute);
  TomlTable lora = root.Table("lora");
  e.lora_rank = lora.Integer("rank", {0, 65536}, e.lora_rank);
  e.lora_alpha = lora.Real("alpha", kNotNegative, e.lora_alpha);
  if (e.lora_alpha == 0) e.lora_alpha = static_cast<double>(e.lora_rank);
  const std::vector<std::string> known = e.lora_targets;
  e.lora_targets = lora.Texts("targets", known);
  for (const std::string& target : e.lora_targets) {
    if (std::find(known.begin(), known.end(), target) != known.end()) continue;
    lora.Fail("targets", "an entry of \"targets\" is \"" + target + "\"", "each one of: q, k, v, o, ffn.0, ffn.2");
  }
  if (e.lora_rank > 0 && e.lora_targets.empty()) lora.Fail("targets", "\"rank\" is above 0, but \"targets\" is empty");
}

OptimizerConfig ReadOptimizer(TomlTable table) {
  OptimizerConfig config;
  config.learning_rate = table.Real("learning_rate", kPositive);
  config.beta1 = table.Real("beta1", kBeta, config.beta1);
  config.beta2 = table.Real("beta2", kOpenUnit, config.beta2);
  config.epsilon = table.Real("epsilon", kPositive, config.epsilon);
  config.weight_decay = table.Real("weight_decay", kNotNegative, config.weight_decay);
  config.clip_norm = table.Real("clip_norm", kPositive, config.clip_norm);
  config.warmup_steps = table.Integer("warmup_steps", kCountOrZero, config.warmup_steps);
  return config;
}

// A bank of another encoder has rows that the model was never conditioned on, and of the right shape.
void RequirePromptEncoder(const TomlTable& model, const Experiment& e) {
  if (e.prompt_encoder.empty()) return;
  const Metadata metadata = SafetensorsFile::Open(e.prompts).metadata();
  const auto it = metadata.find("sgmd.encoder");
  const std::string encoder = it == metadata.end() ? "unknown" : it->second;
  if (encoder.ends_with(" " + e.prompt_encoder)) return;
  model.Fail("prompt_encoder", StrCat("the prompts were encoded by ", encoder, ", not by ", e.prompt_encoder),
             "make the prompt bank with that encoder (sgmd-encode), or take the key away");
}

// Says that `what` of [model] `key` is missing, and which variable to set where the path begins with one.
[[noreturn]] void FailMissing(TomlTable model, const char* key, const std::string& what, std::string hint) {
  const std::string text = model.Text(key);
  if (text.starts_with('$')) {
    hint += StrCat(hint.empty() ? "" : "; ", "the path is ", text,
                   "; sgmd-launch plan --no-weights needs config.json alone");
  }
  model.Fail(key, what, hint);
}

void ReadModelAndData(TomlTable root, Experiment& e, RequiredFiles needed) {
  TomlTable model = root.Table("model");
  e.teacher = model.Path("teacher");
  try {
    if (needed != RequiredFiles::kNone) FindModelConfig(e.teacher);
  } catch (const Error& error) {
    FailMissing(model, "teacher", StrCat(error.message(), ": ", error.where()), error.hint());
  }
  e.prompts = model.Path("prompts");
  if (needed == RequiredFiles::kAll && !std::filesystem::exists(e.prompts)) {
    FailMissing(model, "prompts", StrCat("no prompt bank at ", e.prompts.string()), "");
  }
  e.prompt_encoder = model.Text("prompt_encoder", "");
  if (needed == RequiredFiles::kAll) RequirePromptEncoder(model, e);
  e.guidance = model.Real("guidance", kNotNegative);
  TomlTable data = root.Table("data");
  e.latent = data.Integers("latent", kCount);
  if (e.latent.size() != 4) data.Fail("latent", "\"latent\" must be [channels, frames, height, width]");
  e.micro_batch = data.Integer("micro_batch", kCount, e.micro_batch);
  e.micro_batches = data.Integer("micro_batches", kCount, e.micro_batches);
}

void ReadSchedule(TomlTable table, Experiment& e) {
  e.student_steps = table.Integers("student_steps", {1, 1000}, e.student_steps);
  if (e.student_steps.empty() || std::adjacent_find(e.student_steps.begin(), e.student_steps.end(),
                                                    std::less_equal<>()) != e.student_steps.end()) {
    table.Fail("student_steps", "\"student_steps\" must be strictly descending", "such as [1000, 750, 500, 250]");
  }
  e.exit_weights = table.Integers("exit_weights", {0, 1000}, std::vector<std::int64_t>(e.student_steps.size(), 1));
  if (e.exit_weights.size() != e.student_steps.size() || std::ranges::max(e.exit_weights) == 0) {
    table.Fail("exit_weights", StrCat("\"exit_weights\" must be a weight for each of the ", e.student_steps.size(),
                                      " student steps, not all of them 0"));
  }
  e.student_shift = table.Real("student_shift", kPositive, e.student_shift);
  e.score_shift = table.Real("score_shift", kPositive, e.score_shift);
  e.score_sigma_min = table.Real("score_sigma_min", kOpenUnit, e.score_sigma_min);
  e.score_sigma_max = table.Real("score_sigma_max", kOpenUnit, e.score_sigma_max);
  if (e.score_sigma_min >= e.score_sigma_max) {
    table.Fail("score_sigma_min", "\"score_sigma_min\" must be below \"score_sigma_max\"");
  }
}

void ReadTraining(TomlTable root, Experiment& e) {
  TomlTable objective = root.Table("objective");
  std::vector<std::string> names;
  for (const ObjectiveName& known : kObjectives) names.emplace_back(known.name);
  e.objective = objective.Choice("name", names, e.objective);
  e.weighting = objective.Choice("weighting", {"lightx2v", "paper"}, e.weighting);
  e.lambda = objective.Real("lambda", kNotNegative, e.lambda);
  TomlTable inner = root.Table("inner");
  for (const ObjectiveName& known : kObjectives) {
    if (e.objective == known.name) e.inner_updates = known.inner_updates;
  }
  e.inner_updates = inner.Integer("updates", kCountOrZero, e.inner_updates);
  e.inner_source = inner.Choice("source", {"shared", "fresh", "replay"}, e.inner_source);
  e.inner_max_age = inner.Integer("max_age", kCountOrZero, e.inner_max_age);
  TomlTable optimizer = root.Table("optimizer");
  e.generator_optimizer = ReadOptimizer(optimizer.Table("generator"));
  e.fake_score_optimizer = ReadOptimizer(optimizer.Table("fake_score"));
  e.ema_decay = root.Table("ema").Real("decay", kBeta, e.ema_decay);
  TomlTable checkpoint = root.Table("checkpoint");
  e.checkpoint_every = checkpoint.Integer("every", kCount, e.checkpoint_every);
  e.checkpoint_keep = checkpoint.Integer("keep", kCount, e.checkpoint_keep);
  TomlTable threads = root.Table("threads");
  e.generator_threads = threads.Integer("generator", {1, 1024}, e.generator_threads);
  e.fake_score_threads = threads.Integer("fake_score", {1, 1024}, e.fake_score_threads);
}

void ReadDiversity(TomlTable table, Experiment& e) {
  e.diversity_weight = table.Real("weight", kNotNegative, e.diversity_weight);
  e.anchor_grid = table.Integer("anchor_grid", {1, 1000}, e.anchor_grid);
  e.anchor_steps =
      table.Integer("anchor_steps", {1, static_cast<double>(e.anchor_grid)}, std::min(e.anchor_steps, e.anchor_grid));
  e.noise_bank = table.Integer("noise_bank", kCount, e.noise_bank);
  if (e.diversity_weight == 0) return;
  if (e.noise_bank % e.micro_batch != 0) {
    table.Fail("noise_bank",
               StrCat("\"noise_bank\" is ", e.noise_bank, ", not a multiple of micro_batch = ", e.micro_batch),
               "anchors are kept by whole micro-batches");
  }
  if (std::ranges::max(ExitWeights(e)) == 0) {
    table.Fail("weight", "the diversity loss needs a student of at least 2 steps that exits after the first",
               "it takes the place of the first as an exit step");
  }
}

void WriteOptimizer(TomlWriter& out, const std::string& name, const OptimizerConfig& config) {
  out.Table("optimizer." + name);
  out.Real("learning_rate", config.learning_rate).Real("beta1", config.beta1).Real("beta2", config.beta2);
  out.Real("epsilon", config.epsilon).Real("weight_decay", config.weight_decay).Real("clip_norm", config.clip_norm);
  out.Integer("warmup_steps", config.warmup_steps);
}

// The settings that decide the weights, without paths, length and bookkeeping.
std::string SettingsToml(Experiment e) {
  e.name = "";
  e.steps = 1;
  e.teacher = e.prompts = "";
  e.prompt_encoder = "";  // a check, and the bank's digest has it
  e.checkpoint_every = e.checkpoint_keep = 1;
  if (e.diversity_weight == 0) e.anchor_steps = e.anchor_grid = e.noise_bank = 1;  // they decide nothing
  return ToToml(e);
}

}  // namespace

Experiment LoadExperiment(const std::filesystem::path& path, RequiredFiles needed) {
  TomlTable root = TomlFile::Open(path).root();
  Experiment e;
  TomlTable table = root.Table("experiment");
  e.name = table.Text("name");
  e.seed = static_cast<std::uint64_t>(table.Integer("seed", {0, 9e18}, static_cast<std::int64_t>(e.seed)));
  e.steps = table.Integer("steps", kCount);
  e.max_staleness = table.Integer("max_staleness", {0, 1}, e.max_staleness);
  ReadModelAndData(root, e, needed);
  ReadSchedule(root.Table("schedule"), e);
  ReadPrecision(root, e);
  ReadTraining(root, e);
  ReadDiversity(root.Table("diversity"), e);
  root.Finish();
  return e;
}

std::vector<std::int64_t> ExitWeights(const Experiment& e) {
  std::vector<std::int64_t> weights = e.exit_weights;
  if (e.diversity_weight > 0) weights.front() = 0;
  return weights;
}

std::string ToToml(const Experiment& e) {
  TomlWriter out;
  out.Table("experiment").Text("name", e.name).Integer("seed", static_cast<std::int64_t>(e.seed));
  out.Integer("steps", e.steps).Integer("max_staleness", e.max_staleness);
  out.Table("model")
      .Text("teacher", e.teacher.string())
      .Text("prompts", e.prompts.string())
      .Real("guidance", e.guidance);
  if (!e.prompt_encoder.empty()) out.Text("prompt_encoder", e.prompt_encoder);
  out.Table("data").Integers("latent", e.latent).Integer("micro_batch", e.micro_batch);
  out.Integer("micro_batches", e.micro_batches);
  out.Table("schedule").Integers("student_steps", e.student_steps).Integers("exit_weights", e.exit_weights);
  out.Real("student_shift", e.student_shift)
      .Real("score_shift", e.score_shift)
      .Real("score_sigma_min", e.score_sigma_min);
  out.Real("score_sigma_max", e.score_sigma_max);
  out.Table("objective").Text("name", e.objective).Text("weighting", e.weighting).Real("lambda", e.lambda);
  out.Table("inner")
      .Integer("updates", e.inner_updates)
      .Text("source", e.inner_source)
      .Integer("max_age", e.inner_max_age);
  out.Table("diversity").Real("weight", e.diversity_weight).Integer("anchor_steps", e.anchor_steps);
  out.Integer("anchor_grid", e.anchor_grid).Integer("noise_bank", e.noise_bank);
  WriteOptimizer(out, "generator", e.generator_optimizer);
  WriteOptimizer(out, "fake_score", e.fake_score_optimizer);
  out.Table("ema").Real("decay", e.ema_decay);
  out.Table("checkpoint").Integer("every", e.checkpoint_every).Integer("keep", e.checkpoint_keep);
  out.Table("precision").Text("compute", e.compute);
  out.Table("lora").Integer("rank", e.lora_rank).Real("alpha", e.lora_alpha).Texts("targets", e.lora_targets);
  out.Table("threads").Integer("generator", e.generator_threads).Integer("fake_score", e.fake_score_threads);
  return out.text();
}

Digest ExperimentDigest(const Experiment& experiment) {
  const Digest teacher = ModelDigest(experiment.teacher), prompts = DigestCache::OfUser().Of(experiment.prompts);
  return Hasher().Text("experiment").Text(SettingsToml(experiment)).Text(teacher.Hex()).Text(prompts.Hex()).Finish();
}

Digest ModelDigest(const std::filesystem::path& model) {
  const DigestCache cache = DigestCache::OfUser();
  Hasher hasher;
  for (const auto& file : FindModel(model).identity) hasher.Text(file.filename().string()).Text(cache.Of(file).Hex());
  return hasher.Finish();
}

}  // namespace sgmd
