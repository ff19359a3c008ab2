#include "common/config/experiment.h"

#include <algorithm>

#include "common/config/experiment_fields.h"
#include "common/config/field_reader.h"
#include "common/config/field_text.h"
#include "common/error/error.h"
#include "common/storage/digest_cache.h"
#include "common/storage/model_folder.h"
#include "common/storage/safetensors.h"

namespace sgmd {
namespace {

constexpr const char* kObjectives[] = {"sgmd", "dmd2", "tsg_fisher", "tsg_sim"};
constexpr const char* kWeightings[] = {"lightx2v", "paper"};
constexpr const char* kInnerSources[] = {"shared", "fresh", "fresh_after", "replay", "paired"};
constexpr const char* kInnerOrders[] = {"after", "before"};
constexpr const char* kInnerPacings[] = {"locked", "free"};
constexpr const char* kExitDraws[] = {"micro_batch", "step"};
constexpr const char* kRollouts[] = {"euler", "renoise"};
constexpr const char* kTrainedExperts[] = {"both", "high_noise", "low_noise"};
constexpr const char* kRateDecays[] = {"none", "linear", "cosine"};
constexpr const char* kPromptOrders[] = {"random", "epochs"};
constexpr const char* kComputes[] = {"float32", "bfloat16"};
constexpr const char* kKernels[] = {"fused", "reference"};

// A bank of another encoder has rows that the model was never conditioned on, and of the right shape.
void RequirePromptEncoder(const TomlTable& model, const Experiment& e) {
  if (e.model.prompt_encoder.empty()) return;
  const Metadata metadata = SafetensorsFile::Open(e.model.prompts).metadata();
  const auto it = metadata.find("sgmd.encoder");
  const std::string encoder = it == metadata.end() ? "unknown" : it->second;
  if (encoder.ends_with(" " + e.model.prompt_encoder)) return;
  model.Fail("prompt_encoder", StrCat("the prompts were encoded by ", encoder, ", not by ", e.model.prompt_encoder),
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

// Also finds the boundary where a model is two experts and the file does not say it.
void CheckModel(TomlTable model, Experiment& e, RequiredFiles needed) {
  const bool said = e.model.boundary > 0;
  bool two = false;
  const auto require = [&](const char* key, const std::filesystem::path& path) {
    if (needed == RequiredFiles::kNone || path.empty()) return;
    try {
      const std::vector<Expert> experts = FindExperts(path);
      if (experts.size() > 1 && e.model.boundary == 0) e.model.boundary = experts.front().min_sigma;
      two |= experts.size() > 1;
    } catch (const Error& error) {
      FailMissing(model, key, StrCat(error.message(), ": ", error.where()), error.hint());
    }
  };
  require("teacher", e.model.teacher);
  require("student", e.model.student);
  require("fake_score", e.model.fake_score);
  if (said && !two && needed != RequiredFiles::kNone)
    model.Fail("boundary", "\"boundary\" is above 0, but no model here is two experts", "take the key away");
  if (e.model.guidance_low > 0 && !two && needed != RequiredFiles::kNone)
    model.Fail("guidance_low", "\"guidance_low\" is above 0, but no model here is two experts", "take the key away");
  if (needed != RequiredFiles::kAll) return;
  if (!std::filesystem::exists(e.model.prompts)) {
    FailMissing(model, "prompts", StrCat("no prompt bank at ", e.model.prompts.string()), "");
  }
  RequirePromptEncoder(model, e);
}

void CheckSchedule(const TomlTable& table, const Experiment::Schedule& s) {
  const auto& steps = s.student_steps;
  if (steps.empty() || std::adjacent_find(steps.begin(), steps.end(), std::less_equal<>()) != steps.end()) {
    table.Fail("student_steps", "\"student_steps\" must be strictly descending", "such as [1000, 750, 500, 250]");
  }
  if (s.exit_weights.size() != steps.size() || std::ranges::max(s.exit_weights) == 0) {
    table.Fail("exit_weights", StrCat("\"exit_weights\" must be a weight for each of the ", steps.size(),
                                      " student steps, not all of them 0"));
  }
  if (s.score_sigma_min >= s.score_sigma_max) {
    table.Fail("score_sigma_min", "\"score_sigma_min\" must be below \"score_sigma_max\"");
  }
}

// Both kinds of draws of an iteration need the side of the boundary that is trained.
void CheckExperts(TomlTable root, const Experiment& e) {
  const Experiment::Schedule& s = e.schedule;
  const TomlTable table = root.Table("schedule");
  if (!HasTwoExperts(e)) {
    if (s.experts == TrainedExperts::kBoth) return;
    table.Fail("experts", StrCat("\"experts\" is \"", Spell(s.experts), "\", but no model here is two experts"));
  }
  const double boundary = e.model.boundary;
  const bool high = s.experts != TrainedExperts::kLowNoise, low = s.experts != TrainedExperts::kHighNoise;
  bool exits_high = false, exits_low = false;
  const std::vector<std::int64_t> weights = ExitWeights(e);
  for (std::size_t i = 0; i < weights.size(); ++i)
    (IsFrom(boundary, StudentSigma(s, i)) ? exits_high : exits_low) |= weights[i] > 0;
  if ((high && !exits_high) || (low && !exits_low)) {
    table.Fail("student_steps",
               StrCat("no rollout can end ", high && !exits_high ? "at or above" : "below", " the boundary ", boundary,
                      ", so that one of the experts to be trained is not"),
               "other steps, exit_weights or shift; or train one expert: experts = \"high_noise\", \"low_noise\"");
  }
  const bool no_high = high && !IsFrom(boundary, s.score_sigma_max),
             no_low = low && IsFrom(boundary, s.score_sigma_min);
  if (no_high || no_low) {
    table.Fail(no_high ? "score_sigma_max" : "score_sigma_min",
               StrCat("no noise level of scores is on the side of the boundary ", boundary, " of what is trained"));
  }
  if (e.diversity.weight > 0 && !high) {
    root.Table("diversity")
        .Fail("weight", "the diversity loss trains the first step, but [schedule] experts is \"low_noise\"");
  }
}

void CheckRate(const TomlTable& table, const OptimizerConfig& o) {
  if (o.decay != RateDecay::kNone && o.decay_steps <= o.warmup_steps) {
    table.Fail("decay_steps",
               StrCat("\"decay_steps\" is ", o.decay_steps, ", and the warm-up ends at ", o.warmup_steps),
               "the update at which the learning rate has fallen");
  }
}

void CheckObjective(const TomlTable& table, const Experiment& e) {
  if (e.objective.weight_cap > 0 && e.objective.weighting != Weighting::kPaper) {
    table.Fail("weight_cap", "\"weight_cap\" is above 0, but \"weighting\" is not \"paper\"",
               "no other weighting has a weight to cap");
  }
  if (e.objective.alignment > 0 && e.lora.rank > 0) {
    table.Fail("alignment", "\"alignment\" is above 0, but adapters are trained",
               "the mean of two products of adapters is not the product of their means; train all parameters");
  }
}

// Samples that are used in several steps are all used up at a checkpoint: none is kept in it.
void CheckReuse(TomlTable root, const Experiment& e) {
  const std::int64_t reuse = e.outer.reuse;
  const auto fail = [&](const char* section, const char* key, std::int64_t value) {
    root.Table(section).Fail(key, StrCat("\"", key, "\" is ", value, ", not a multiple of [outer] reuse = ", reuse),
                             "scored samples are used in so many steps, and a checkpoint lies between them");
  };
  if (e.steps % reuse != 0) fail("experiment", "steps", e.steps);
  if (e.checkpoint.every % reuse != 0) fail("checkpoint", "every", e.checkpoint.every);
}

void CheckInner(const TomlTable& table, const Experiment::Inner& inner) {
  const bool before = inner.order == InnerOrder::kBefore;
  if (before && inner.source == InnerSource::kFreshAfter) {
    table.Fail("order", "\"order\" is \"before\", but \"source\" is \"fresh_after\"",
               "those rollouts are made when the gradients have been used; fresh ones are made before");
  }
  if (inner.source != InnerSource::kPaired) return;
  if (before) {
    table.Fail("order", "\"order\" is \"before\", but \"source\" is \"paired\"",
               "both gradients of a pair come from one pass of the network, before the update");
  }
  if (inner.updates != 1) {
    table.Fail("updates", StrCat("\"updates\" is ", inner.updates, ", but \"source\" is \"paired\""),
               "a pass of the network is shared with the one update after it: updates = 1");
  }
}

void CheckPace(TomlTable root, const Experiment& e) {
  const bool free = e.inner.pace == InnerPacing::kFree;
  if (free && (e.inner.source != InnerSource::kReplay || e.inner.order != InnerOrder::kAfter)) {
    root.Table("inner").Fail(
        "pace",
        StrCat("\"pace\" is \"free\", but \"source\" is \"", Spell(e.inner.source), "\" and \"order\" \"",
               Spell(e.inner.order), "\""),
        "updates at any time are made on recorded samples: source = \"replay\", order = \"after\"");
  }
  if (e.inner.min > e.inner.max) root.Table("inner").Fail("min", "\"min\" is above \"max\"");
  if (e.outer.land > e.data.micro_batches) {
    root.Table("outer").Fail("land",
                             StrCat("\"land\" is ", e.outer.land, ", and micro_batches ", e.data.micro_batches));
  }
  if (LandedMicroBatches(e) < e.data.micro_batches && !free) {
    root.Table("outer").Fail("land", "\"land\" is below micro_batches, but [inner] \"pace\" is \"locked\"",
                             "which micro-batches come first is a matter of timing, as a free pace is");
  }
}

void CheckDiversity(const TomlTable& table, const Experiment& e) {
  if (e.diversity.weight == 0) return;
  if (e.diversity.noise_bank % e.data.micro_batch != 0) {
    table.Fail(
        "noise_bank",
        StrCat("\"noise_bank\" is ", e.diversity.noise_bank, ", not a multiple of micro_batch = ", e.data.micro_batch),
        "anchors are kept by whole micro-batches");
  }
  if (std::ranges::max(ExitWeights(e)) == 0) {
    table.Fail("weight", "the diversity loss needs a student of at least 2 steps that exits after the first",
               "it takes the place of the first as an exit step");
  }
}

void CheckLora(const TomlTable& lora, const Experiment::Lora& l) {
  const std::vector<std::string> known = Experiment::Lora().targets;
  for (const std::string& target : l.targets) {
    if (std::find(known.begin(), known.end(), target) != known.end()) continue;
    lora.Fail("targets", "an entry of \"targets\" is \"" + target + "\"", "each one of: q, k, v, o, ffn.0, ffn.2");
  }
  if (l.rank > 0 && l.targets.empty()) lora.Fail("targets", "\"rank\" is above 0, but \"targets\" is empty");
}

}  // namespace

std::span<const char* const> SpellingsOf(Objective) { return kObjectives; }
std::span<const char* const> SpellingsOf(Weighting) { return kWeightings; }
std::span<const char* const> SpellingsOf(InnerSource) { return kInnerSources; }
std::span<const char* const> SpellingsOf(InnerOrder) { return kInnerOrders; }
std::span<const char* const> SpellingsOf(InnerPacing) { return kInnerPacings; }
std::span<const char* const> SpellingsOf(ExitDraw) { return kExitDraws; }
std::span<const char* const> SpellingsOf(RolloutForm) { return kRollouts; }
std::span<const char* const> SpellingsOf(TrainedExperts) { return kTrainedExperts; }
std::span<const char* const> SpellingsOf(RateDecay) { return kRateDecays; }
std::span<const char* const> SpellingsOf(PromptOrder) { return kPromptOrders; }
std::span<const char* const> SpellingsOf(Compute) { return kComputes; }
std::span<const char* const> SpellingsOf(Kernels) { return kKernels; }

std::int64_t DefaultInnerUpdates(Objective objective) {
  return objective == Objective::kDmd2 || objective == Objective::kTsgFisher ? 5 : 1;
}

Experiment LoadExperiment(const std::filesystem::path& path, RequiredFiles needed, const TomlOverrides& overrides) {
  TomlTable root = TomlFile::Open(path, overrides).root();
  Experiment e;
  FieldReader reader(root);
  VisitFields(reader, e);
  if (e.lora.alpha == 0) e.lora.alpha = static_cast<double>(e.lora.rank);
  root.Finish();
  CheckModel(root.Table("model"), e, needed);
  if (e.data.latent.size() != 4) {
    root.Table("data").Fail("latent", "\"latent\" must be [channels, frames, height, width]");
  }
  CheckSchedule(root.Table("schedule"), e.schedule);
  CheckExperts(root, e);
  CheckRate(root.Table("optimizer.generator"), e.optimizer.generator);
  CheckRate(root.Table("optimizer.fake_score"), e.optimizer.fake_score);
  CheckReuse(root, e);
  CheckObjective(root.Table("objective"), e);
  CheckInner(root.Table("inner"), e.inner);
  CheckPace(root, e);
  CheckDiversity(root.Table("diversity"), e);
  CheckLora(root.Table("lora"), e.lora);
  return e;
}

const std::filesystem::path& ModelOf(const Experiment& e, Role role) {
  const std::filesystem::path& own = role == Role::kGenerator   ? e.model.student
                                     : role == Role::kFakeScore ? e.model.fake_score
                                                                : e.model.teacher;
  return own.empty() ? e.model.teacher : own;
}

double StudentSigma(const Experiment::Schedule& s, std::size_t step) {
  const double u = static_cast<double>(s.student_steps[step]) / 1000;
  return s.student_shift * u / (1 + (s.student_shift - 1) * u);
}

std::vector<std::int64_t> LatentShape(const Experiment& e) {
  std::vector<std::int64_t> shape{e.data.micro_batch};
  shape.insert(shape.end(), e.data.latent.begin(), e.data.latent.end());
  return shape;
}

std::vector<std::int64_t> ExitWeights(const Experiment& e) {
  std::vector<std::int64_t> weights = e.schedule.exit_weights;
  if (e.diversity.weight > 0) weights.front() = 0;
  return weights;
}

std::string ToToml(const Experiment& e) { return ToToml(FieldTextsOf(e)); }

// A setting at its default is left out, so that a new one does not make an old run another experiment.
Digest ExperimentDigest(const Experiment& experiment) {
  Experiment e = experiment;
  if (e.diversity.weight == 0) e.diversity = {};  // its other keys decide nothing
  Hasher hasher;
  hasher.Text("experiment").Text(ModelDigest(e.model.teacher).Hex());
  hasher.Text(DigestCache::OfUser().Of(e.model.prompts).Hex());
  if (!e.model.student.empty()) hasher.Text("student").Text(ModelDigest(e.model.student).Hex());
  if (!e.model.fake_score.empty()) hasher.Text("fake_score").Text(ModelDigest(e.model.fake_score).Hex());
  const std::vector<FieldText> fields = FieldTextsOf(e), defaults = FieldTextsOf(Experiment());
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const FieldText& field = fields[i];
    if (field.key.decides == Decides::kNothing || field.value == defaults[i].value) continue;
    hasher.Text(field.section).Text(field.key.name).Text(field.value);
  }
  return hasher.Finish();
}

Digest ModelDigest(const std::filesystem::path& model) {
  const DigestCache cache = DigestCache::OfUser();
  Hasher hasher;
  for (const Expert& expert : FindExperts(model)) {
    if (!expert.name.empty()) hasher.Text(expert.name);
    for (const auto& file : FindModel(expert.model).identity)
      hasher.Text(file.filename().string()).Text(cache.Of(file).Hex());
  }
  return hasher.Finish();
}

}  // namespace sgmd
