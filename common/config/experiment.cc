#include "common/config/experiment.h"

#include <algorithm>
#include <limits>

#include "common/config/toml_reader.h"
#include "common/config/toml_writer.h"
#include "common/error/error.h"
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

void ReadModelAndData(TomlTable root, Experiment& e) {
  TomlTable model = root.Table("model");
  e.teacher = model.Path("teacher");
  try {
    FindModelConfig(e.teacher);
  } catch (const Error& error) {
    model.Fail("teacher", StrCat(error.message(), ": ", error.where()), error.hint());
  }
  e.prompts = model.Path("prompts");
  if (!std::filesystem::exists(e.prompts)) model.Fail("prompts", StrCat("no prompt bank at ", e.prompts.string()));
  e.prompt_encoder = model.Text("prompt_encoder", "");
  RequirePromptEncoder(model, e);
  e.guidance = model.Real("guidance", kNotNegative);
  TomlTable data = root.Table("data");
  e.latent = data.Integers("latent", kCount);
  if (e.latent.size() != 4) data.Fail("latent", "\"latent\" must be [channels, frames, height, width]");
  e.micro_batch = data.Integer("micro_batch", kCount, e.micro_batch);
  e.micro_batches = data.Integer("micro_batches", kCount, e.micro_batches);
}

void ReadSchedule(TomlTable table, Experiment& e) {
  e.student_steps = table.Integers("student_steps", {1, 1000}, e.student_steps);
  if (e.student_steps.empty() ||
      std::adjacent_find(e.student_steps.begin(), e.student_steps.end(), std::less_equal<>()) != e.student_steps.end()) {
    table.Fail("student_steps", "\"student_steps\" must be strictly descending", "such as [1000, 750, 500, 250]");
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

LoraConfig ReadLora(TomlTable table) {
  LoraConfig lora;
  lora.rank = table.Integer("rank", {0, 65536}, lora.rank);
  lora.alpha = table.Real("alpha", kNotNegative, static_cast<double>(lora.rank));
  if (lora.rank > 0 && lora.alpha == 0) table.Fail("alpha", "\"alpha\" must be above 0", "alpha = rank counts the adapters once");
  lora.targets = table.Texts("targets", lora.targets);
  if (lora.rank > 0 && lora.targets.empty()) table.Fail("targets", "\"targets\" is empty", "leave it out for all Linears of the blocks");
  for (const std::string& target : lora.targets) {
    LoraConfig one = lora;
    one.targets = {target};
    if (std::none_of(std::begin(kBlockLinears), std::end(kBlockLinears), [&](const char* name) { return AdaptsLinear(one, name); })) {
      table.Fail("targets", StrCat("no Linear of a block ends in \"", target, "\""),
                 "such as q, k, v, o, ffn.0, ffn.2, or self_attn.q for that one alone");
    }
  }
  return lora;
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
  return ToToml(e);
}

}  // namespace

Experiment LoadExperiment(const std::filesystem::path& path) {
  TomlTable root = TomlFile::Open(path).root();
  Experiment e;
  TomlTable table = root.Table("experiment");
  e.name = table.Text("name");
  e.seed = static_cast<std::uint64_t>(table.Integer("seed", {0, 9e18}, static_cast<std::int64_t>(e.seed)));
  e.steps = table.Integer("steps", kCount);
  e.max_staleness = table.Integer("max_staleness", {0, 1}, e.max_staleness);
  ReadModelAndData(root, e);
  ReadSchedule(root.Table("schedule"), e);
  ReadTraining(root, e);
  e.compute = root.Table("precision").Choice("compute", {"float32", "bfloat16"}, e.compute);
  e.lora = ReadLora(root.Table("lora"));
  root.Finish();
  return e;
}

std::string ToToml(const Experiment& e) {
  TomlWriter out;
  out.Table("experiment").Text("name", e.name).Integer("seed", static_cast<std::int64_t>(e.seed));
  out.Integer("steps", e.steps).Integer("max_staleness", e.max_staleness);
  out.Table("model").Text("teacher", e.teacher.string()).Text("prompts", e.prompts.string()).Real("guidance", e.guidance);
  if (!e.prompt_encoder.empty()) out.Text("prompt_encoder", e.prompt_encoder);
  out.Table("data").Integers("latent", e.latent).Integer("micro_batch", e.micro_batch);
  out.Integer("micro_batches", e.micro_batches);
  out.Table("schedule").Integers("student_steps", e.student_steps).Real("student_shift", e.student_shift);
  out.Real("score_shift", e.score_shift).Real("score_sigma_min", e.score_sigma_min);
  out.Real("score_sigma_max", e.score_sigma_max);
  out.Table("objective").Text("name", e.objective).Text("weighting", e.weighting).Real("lambda", e.lambda);
  out.Table("inner").Integer("updates", e.inner_updates).Text("source", e.inner_source).Integer("max_age", e.inner_max_age);
  WriteOptimizer(out, "generator", e.generator_optimizer);
  WriteOptimizer(out, "fake_score", e.fake_score_optimizer);
  out.Table("precision").Text("compute", e.compute);
  out.Table("lora").Integer("rank", e.lora.rank).Real("alpha", e.lora.alpha).Texts("targets", e.lora.targets);
  out.Table("ema").Real("decay", e.ema_decay);
  out.Table("checkpoint").Integer("every", e.checkpoint_every).Integer("keep", e.checkpoint_keep);
  out.Table("threads").Integer("generator", e.generator_threads).Integer("fake_score", e.fake_score_threads);
  return out.text();
}

bool AdaptsLinear(const LoraConfig& lora, std::string_view name) {
  return std::any_of(lora.targets.begin(), lora.targets.end(),
                     [&](const std::string& target) { return name == target || name.ends_with("." + target); });
}

Digest ExperimentDigest(const Experiment& experiment) {
  const Digest teacher = ModelDigest(experiment.teacher), prompts = DigestFile(experiment.prompts);
  return Hasher().Text("experiment").Text(SettingsToml(experiment)).Text(teacher.Hex()).Text(prompts.Hex()).Finish();
}

Digest ModelDigest(const std::filesystem::path& model) {
  Hasher hasher;
  for (const auto& file : FindModel(model).identity) hasher.Text(file.filename().string()).Text(DigestFile(file).Hex());
  return hasher.Finish();
}

}  // namespace sgmd
