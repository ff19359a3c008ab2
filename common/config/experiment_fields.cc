#include "common/config/experiment_fields.h"

namespace sgmd {
namespace {

constexpr NumberRange kBeta{0, 1, false, true};
constexpr NumberRange kUnit{0, 1};
constexpr NumberRange kThreads{1, 1024};
constexpr NumberRange kSharing{1, 64};

void VisitModelAndData(FieldVisitor& v, Experiment& e) {
  v.Section(
      "model",
      "The teacher, the models that student and fake score start from, and the prompts. All have one latent space "
      "and one text encoder; their sizes may differ.");
  v.Field({"teacher",
           "a folder with config.json and *.safetensors, a Diffusers folder, or a .safetensors file",
           {},
           Presence::kRequired,
           Decides::kNothing},
          e.model.teacher);
  v.Field({"student",
           "what the student starts from, such as an earlier student or a smaller model; the teacher by default",
           {},
           Presence::kOptional,
           Decides::kNothing},
          e.model.student);
  v.Field({"fake_score",
           "what the fake score starts from; the teacher by default. Beside a smaller student one of the student's "
           "size costs less",
           {},
           Presence::kOptional,
           Decides::kNothing},
          e.model.fake_score);
  v.Field({"prompts", "the prompt bank, a file that `sgmd-encode` makes", {}, Presence::kRequired, Decides::kNothing},
          e.model.prompts);
  v.Field({"prompt_encoder",
           "the digest of the text encoder that the bank must be made with; empty: any",
           {},
           Presence::kOptional,
           Decides::kNothing},
          e.model.prompt_encoder);
  v.Field({"guidance",
           "w in u + w (c - u) of the teacher's scores; 1 is the conditional score alone. Self-Forcing and "
           "legacy FastVideo state w - 1",
           kNotNegative, Presence::kRequired},
          e.model.guidance);
  v.Field({"guidance_low",
           "the same below the boundary of models of two experts, where Wan itself samples Wan2.2-T2V-A14B with 3 "
           "beside a guidance of 4; 0: as guidance",
           kNotNegative},
          e.model.guidance_low);
  v.Field({"boundary",
           "of models of two experts (Wan2.2-A14B): the noise level from which on the high-noise one is used; by "
           "default what the first such folder says (boundary_ratio in model_index.json, else 0.875)",
           kBeta},
          e.model.boundary);
  v.Section("data", "What a sample is, and how many make an outer iteration.");
  v.Field({"latent", "channels, frames, height and width of a latent video", kCount, Presence::kRequired},
          e.data.latent);
  v.Field({"micro_batch", "samples of a micro-batch, the unit that travels between processes", kCount},
          e.data.micro_batch);
  v.Field({"micro_batches", "micro-batches of an outer iteration", kCount}, e.data.micro_batches);
  v.Field({"prompt_order",
           "`random` draws each prompt by itself; `epochs` goes through the bank in a new order each time, none twice"},
          e.data.prompt_order);
}

void VisitSchedule(FieldVisitor& v, Experiment::Schedule& s) {
  v.Section("schedule", "The student's grid of noise levels, and the noise levels that it is scored at.");
  v.Field({"student_steps", "timesteps of the student before the shift, descending", {1, 1000}}, s.student_steps);
  v.Default([&] { s.exit_weights.assign(s.student_steps.size(), 1); });
  v.Field({"exit_weights",
           "how often a rollout ends at each student step, relative to the others, not all 0; all 1 by default",
           {0, 1000}},
          s.exit_weights);
  v.Field({"student_shift", "m in sigma = m u / (1 + (m - 1) u) of the student's grid", kPositive}, s.student_shift);
  v.Field({"score_shift", "the same of the noise levels of scores", kPositive}, s.score_shift);
  v.Field({"score_sigma_min", "noise levels of scores are not below it", kOpenUnit}, s.score_sigma_min);
  v.Field({"score_sigma_max", "noise levels of scores are not above it", kOpenUnit}, s.score_sigma_max);
  v.Field(
      {"exit",
       "an exit step is drawn for each micro-batch, or for all micro-batches of an outer iteration (`step`), as the "
       "public trainer does for all its ranks"},
      s.exit);
  v.Field({"rollout",
           "from one student step to the next along the velocity (`euler`), or from the clean estimate with new noise "
           "(`renoise`), as Self-Forcing and FastVideo do. A student is sampled as it was trained"},
          s.rollout);
  v.Field(
      {"experts",
       "of models of two experts, which are trained: `both`, or one alone. Exit steps and noise levels of scores are "
       "drawn on the side of what is trained; those of an outer iteration are all on one side of [model] boundary"},
      s.experts);
}

void VisitObjective(FieldVisitor& v, Experiment& e) {
  v.Section("objective", "What the generator is trained on.");
  v.Field({"name", "the objective, a file each in pipeline/objectives"}, e.objective.name);
  v.Field({"weighting", "form of the inner loss, and of the loss terms of all objectives but dmd2"},
          e.objective.weighting);
  v.Field({"lambda", "weight of sgmd's negative residual; 0 switches it off", kNotNegative}, e.objective.lambda);
  v.Field({"weight_cap", "largest weight alpha^2 / sigma^4 of `weighting = \"paper\"`; 0: not capped", kNotNegative},
          e.objective.weight_cap);
  v.Field({"alignment",
           "a in psi <- (1 - a) psi + a theta after every update of the student; 0: none. Above 0 all weights go to "
           "the fake score in every step: at most 2 GiB",
           kBeta},
          e.objective.alignment);
  v.Section("outer", "The updates of the generator.");
  v.Field({"max_staleness",
           "0: strict, bitwise reproducible; N: as many further steps roll out while gradients are on their way",
           {0, 16}},
          e.outer.max_staleness);
  v.Field({"reuse",
           "how many updates a rollout and its teacher score serve, each with the gradient of the fake score of that "
           "time and the student's exit step run again; `steps` and `every` are multiples of it",
           {1, 64}},
          e.outer.reuse);
  v.Field({"land",
           "how many micro-batches of an outer iteration train the generator, those that are scored first; the others "
           "serve the fake score alone; 0: all. Fewer need [inner] pace = \"free\"",
           kCountOrZero},
          e.outer.land);
  v.Section("inner", "The updates of the fake score in an outer iteration.");
  v.Default([&] { e.inner.updates = DefaultInnerUpdates(e.objective.name); });
  v.Field({"updates",
           "updates an outer iteration; 0 leaves the fake score as it is; by default 5 for dmd2 and tsg_fisher, else 1",
           kCountOrZero},
          e.inner.updates);
  v.Field({"source",
           "which student samples it is trained on: those of the scores (`shared`), new rollouts before or after the "
           "student's update (`fresh`, `fresh_after`), recorded ones (`replay`), or those of the scores with the very "
           "noise that they are scored at, in the same pass of the network as the gradient (`paired`)"},
          e.inner.source);
  v.Field(
      {"order",
       "whether the updates of a step come `after` the step's gradients, or `before` them, while the teachers score"},
      e.inner.order);
  v.Field(
      {"pace",
       "`locked`: the number of updates is `updates`; `free`: from `min` to `max`, whenever nothing is more urgent, "
       "on recorded samples (source = \"replay\"). A free run is not a function of its files: what it did is "
       "recorded, and a replay follows it bit for bit"},
      e.inner.pace);
  v.Field({"min", "fewest updates an outer iteration of a free pace", kCountOrZero}, e.inner.min);
  v.Field({"max", "most updates an outer iteration of a free pace", kCount}, e.inner.max);
  v.Field({"max_age", "how many steps old a replayed sample may be", kCountOrZero}, e.inner.max_age);
}

void VisitDiversity(FieldVisitor& v, Experiment::Diversity& d) {
  v.Section("diversity", "The loss that holds the student's first velocity to the teacher's way from the same noise.");
  v.Field({"weight", "weight of the loss; 0 switches it off", kNotNegative}, d.weight);
  v.Field({"anchor_grid", "Euler steps of the teacher's whole way, at `student_shift`", {1, 1000}}, d.anchor_grid);
  v.Default([&] { d.anchor_steps = std::min(d.anchor_steps, d.anchor_grid); });
  v.Field({"anchor_steps", "how many of them lead to the anchor", {1, static_cast<double>(d.anchor_grid)}},
          d.anchor_steps);
  v.Field({"noise_bank",
           "distinct pairs of prompt and noise, a multiple of micro_batch; 0: the rollouts' own, as published",
           kCountOrZero},
          d.noise_bank);
}

void VisitOptimizer(FieldVisitor& v, const char* section, const char* meaning, OptimizerConfig& o) {
  v.Section(section, meaning);
  v.Field({"learning_rate", "learning rate after the warm-up", kPositive, Presence::kRequired}, o.learning_rate);
  v.Field({"beta1", "decay of the first moment; 0 stores none", kBeta}, o.beta1);
  v.Field({"beta2", "decay of the second moment; 0.95 keeps bursts away (pipeline/README.md)", kOpenUnit}, o.beta2);
  v.Field({"epsilon", "added to the root of the second moment", kPositive}, o.epsilon);
  v.Field({"weight_decay", "decoupled weight decay", kNotNegative}, o.weight_decay);
  v.Field({"clip_norm", "largest L2 norm of the whole gradient; a larger one is scaled down to it", kPositive},
          o.clip_norm);
  v.Field({"warmup_steps", "updates over which the learning rate rises linearly", kCountOrZero}, o.warmup_steps);
  v.Field({"decay", "how the learning rate falls after the warm-up: not at all, on a line, or on half a cosine"},
          o.decay);
  v.Field({"decay_steps", "the update, counted from the first, at which it has fallen; with a decay", kCountOrZero},
          o.decay_steps);
  v.Field({"final_fraction", "what is left of it then, and stays", kUnit}, o.final_fraction);
}

void VisitTraining(FieldVisitor& v, Experiment& e) {
  VisitOptimizer(v, "optimizer.generator", "AdamW of the student.", e.optimizer.generator);
  VisitOptimizer(v, "optimizer.fake_score", "AdamW of the fake score.", e.optimizer.fake_score);
  v.Section("ema", "The average of the student's weights, which is what is exported.");
  v.Field({"decay", "decay of the average an update; 0: no average", kBeta}, e.ema.decay);
  v.Section("checkpoint", "States that `up` resumes from.");
  v.Field({"every", "outer iterations between checkpoints", kCount, Presence::kOptional, Decides::kNothing},
          e.checkpoint.every);
  v.Field({"keep", "how many of the newest are kept", kCount, Presence::kOptional, Decides::kNothing},
          e.checkpoint.keep);
  v.Section("precision", "Numbers.");
  v.Field({"compute", "what Linears and attention compute in; trained weights are float32 either way"},
          e.precision.compute);
  v.Field(
      {"scores",
       "what a teacher's scores are rounded to before they are sent and kept: `bfloat16` halves the bytes on the way "
       "and on disk"},
      e.precision.scores);
  v.Field({"deterministic",
           "on GPUs, the same bits twice on one model of GPU; `false` is faster (the backward pass of attention above "
           "all), and a resumed or "
           "replayed run then differs"},
          e.precision.deterministic);
  v.Field({"kernels",
           "what computes norms, gates, rotations and GELU: one pass over memory each, or chains of ATen's operations, "
           "which differ in the last bits"},
          e.precision.kernels);
  v.Section("lora", "Adapters in place of all weights.");
  v.Field({"rank", "rank of the adapters of both trained roles; 0 trains every parameter", {0, 65536}}, e.lora.rank);
  v.Field({"alpha", "adapters are scaled by alpha / rank; 0 means the rank", kNotNegative}, e.lora.alpha);
  v.Field({"targets", "the Linears of every block that get adapters"}, e.lora.targets);
  v.Section("threads", "CPU threads of the trained roles: they decide the last bits of some gradients.");
  v.Field({"generator", "threads of the generator", kThreads}, e.threads.generator);
  v.Field({"fake_score", "threads of the fake score", kThreads}, e.threads.fake_score);
  v.Section(
      "sequence_parallel",
      "Ranks that share the tokens of a micro-batch, for less memory of activations on each: they decide the last "
      "bits of gradients.");
  v.Field({"generator", "of the generator's `devices`, which are a multiple; divides the model's heads", kSharing},
          e.sequence_parallel.generator);
  v.Field({"fake_score", "of the fake score's `devices`, likewise", kSharing}, e.sequence_parallel.fake_score);
}

}  // namespace

void VisitFields(FieldVisitor& v, Experiment& e) {
  v.Section("experiment", "The run as a whole.");
  v.Field({"name", "a name for people", {}, Presence::kRequired, Decides::kNothing}, e.name);
  v.Field({"seed", "every draw is a function of it", {0, 9e18}}, e.seed);
  v.Field({"steps", "outer iterations", kCount, Presence::kRequired, Decides::kNothing}, e.steps);
  VisitModelAndData(v, e);
  VisitSchedule(v, e.schedule);
  VisitObjective(v, e);
  VisitDiversity(v, e.diversity);
  VisitTraining(v, e);
}

}  // namespace sgmd
