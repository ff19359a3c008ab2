#include "common/config/topology_fields.h"

namespace sgmd {
namespace {

constexpr NumberRange kThreads{1, 1024};
constexpr NumberRange kGibibytes{0, 1e6};
constexpr NumberRange kSeconds{0, 1e6, true, false};

void VisitTrainedRole(FieldVisitor& v, const char* section, const char* meaning, Topology::TrainedRole& role) {
  v.Section(section, meaning);
  v.Field({"host", "one of [run] hosts; by default the first"}, role.host);
  v.Field({"device", "cpu, cuda or cuda:N"}, role.device);
  v.Field(
      {"devices",
       "in place of `device`: the role is a group of as many processes, each with a shard of the model on its device "
       "and a part of the micro-batches; the weights are the same, bit for bit, for any number of them"},
      role.devices);
  v.Field({"device_memory_gib", "memory of each device; 0: not known (for cpu, the machine's)", kGibibytes},
          role.device_memory_gib);
  v.Field({"checkpoint_blocks",
           "keep only each block's input and run the block again in the backward pass; a group always does"},
          role.checkpoint_blocks);
  v.Field(
      {"keep_attention",
       "where blocks run again, whether what self-attention gave is kept for that, so that it is not computed again: "
       "the same bits for less time. `auto`: where device_memory_gib leaves room for it. On a GPU in deterministic "
       "runs "
       "in bfloat16 alone"},
      role.keep_attention);
  v.Field(
      {"keep_blocks",
       "where blocks run again, how many of them, the last ones of the model, keep all that their backward pass needs "
       "and are not run again: the same bits for less time. More than the model has: all. -1: as many as "
       "device_memory_gib leaves room for",
       {-1, 1000}},
      role.keep_blocks);
}

void VisitTeacher(FieldVisitor& v, Topology::Teacher& t) {
  v.Section("teacher", "Any number of teachers, which may join and leave while the run goes on.");
  v.Field({"replicas", "teachers at the start; 0 only for a replay", {0, 4096}}, t.replicas);
  v.Field({"device", "device of every replica"}, t.device);
  v.Field({"ranks",
           "above 1 each replica is a group of as many processes, each with a shard of the model and micro-batches of "
           "its own: for a teacher that one device cannot hold; the scores are the same, bit for bit",
           {1, 1024}},
          t.ranks);
  v.Field({"devices", "in place of `device`: those of the replicas in turn, `ranks` for each"}, t.devices);
  v.Field({"hosts",
           "hosts of the replicas in turn, one for each of `devices`, or for each replica where there are none; by "
           "default the first of [run] hosts"},
          t.hosts);
  v.Field({"device_memory_gib", "memory of each device; 0: not known", kGibibytes}, t.device_memory_gib);
  v.Field(
      {"offload",
       "for a teacher that one GPU cannot hold: the blocks of its model are in main memory, of which each replica "
       "needs as much as the model has bytes, and two at a time on the GPU, the next copied while one computes; the "
       "scores are the same, bit for bit. Not with `ranks` above 1, nor on the cpu"},
      t.offload);
  v.Field({"threads", "CPU threads of each; they do not change results", kThreads}, t.threads);
}

void VisitEvaluator(FieldVisitor& v, Topology::Evaluator& e) {
  v.Section("evaluator", "Measures checkpoints in order while the run goes on, at low priority; says which it lost.");
  v.Field({"host", "one of [run] hosts; by default the first"}, e.host);
  v.Field({"enabled", "whether there is one"}, e.enabled);
  v.Field({"features", "of the embedded model, which needs it: network of the Fréchet distance"}, e.features);
  v.Field({"samples",
           "of the embedded model: videos behind each figure; a Fréchet distance of D features needs 10 D",
           {64, 1e6}},
          e.samples);
  v.Field(
      {"vae", "of a model with latents, which needs it: what decodes them, a Diffusers folder or a .safetensors file"},
      e.vae);
  v.Field({"vae_tile",
           "of a model with latents: pixels a side of the tiles in which larger frames are decoded, and which share a "
           "quarter with their neighbours; 256 where memory is short; 0: whole frames",
           {0, 65536}},
          e.vae_tile);
  v.Field({"videos", "of a model with latents: prompts of the bank that are drawn, decoded and shown", {1, 256}},
          e.videos);
  v.Field({"stop_when",
           "of a model with latents: the signs of collapse at which the run is drained, of `static`, `falling` and "
           "`colourful`; each is warned of in any case"},
          e.stop_when);
  v.Field({"device", "of a model with latents; one that training does not use, where there is one"}, e.device);
  v.Field({"device_memory_gib", "memory of that device; 0: not known", kGibibytes}, e.device_memory_gib);
  v.Field({"teacher_steps", "sampling steps of the teacher that students are compared with", {1, 1000}},
          e.teacher_steps);
  v.Field({"threads", "CPU threads", kThreads}, e.threads);
}

void VisitRestart(FieldVisitor& v, Topology::Restart& r) {
  v.Section("restart", "What follows when a process dies or hangs: the run goes on from its newest checkpoint.");
  v.Field({"attempts", "how often one process may end within the window before the run ends", {0, 1e6}}, r.attempts);
  v.Field({"window_seconds", "seconds after which an end no longer counts", kSeconds}, r.window_seconds);
  v.Field({"first_delay_seconds", "pause before the first restart; it doubles with each", kSeconds},
          r.first_delay_seconds);
  v.Field({"longest_delay_seconds", "the pause doubles no further than this", kSeconds}, r.longest_delay_seconds);
  v.Field({"stall_seconds", "a process at work that has done nothing for as long is ended and started again", kSeconds},
          r.stall_seconds);
}

}  // namespace

void VisitFields(FieldVisitor& v, Topology& t) {
  v.Section("run", "What runs, and where its files are.");
  v.Field({"experiment", "the experiment file", {}, Presence::kRequired}, t.run.experiment);
  v.Field({"folder", "logs, checkpoints, events and sockets of the run", {}, Presence::kRequired}, t.run.folder);
  v.Field({"hosts", "names of the machines; the first runs the broker; empty: one machine"}, t.run.hosts);
  VisitTrainedRole(v, "generator", "The student, which is trained.", t.generator);
  v.Field(
      {"keep_exit_graphs",
       "of how many micro-batches of a step what the backward pass of the exit step needs is kept from the rollout, in "
       "place of running that step again: a forward pass less for each sample of them. -1: as many as "
       "device_memory_gib "
       "leaves room for",
       {-1, 1e9}},
      t.generator.keep_exit_graphs);
  VisitTrainedRole(v, "fake_score", "The model of the student's own distribution, which is trained.", t.fake_score);
  VisitTeacher(v, t.teacher);
  VisitEvaluator(v, t.evaluator);
  VisitRestart(v, t.restart);
  v.Section("cache", "Teacher scores on disk, of which a run can be replayed.");
  v.Field({"folder", "by default `cache` in the run folder; several hosts must name one on the first host's own disk"},
          t.cache.folder);
  v.Field({"enabled", "whether scores are kept"}, t.cache.enabled);
  v.Field({"limit_gib", "size above which the oldest scores go first", {0, 1e9, true}}, t.cache.limit_gib);
  v.Section("transport", "How the processes talk. $NAME, ${NAME} and ${NAME:-fallback} stand for variables.");
  v.Field({"data", "endpoint that others connect to: ipc://<file> or tcp://<address>:<port>; by default ipc"},
          t.transport.data);
  v.Field({"control", "likewise, of control messages"}, t.transport.control);
  v.Field({"encrypt", "encrypt both (CURVE); by default where they are tcp, and off only on a loopback address"},
          t.transport.encrypt);
  v.Field({"lease_seconds", "seconds after which an unanswered request goes to another teacher", kSeconds},
          t.transport.lease_seconds);
  v.Field({"beat_seconds", "seconds between the signs of life of a process", kSeconds}, t.transport.beat_seconds);
  v.Field({"silence_seconds", "seconds of silence after which a process counts as dead; above beat_seconds", kSeconds},
          t.transport.silence_seconds);
  v.Section("metrics", "A page for Prometheus, http://<listen>/metrics, on the first host.");
  v.Field({"listen", "address and port, such as 127.0.0.1:9464; whoever reaches it can read it; empty: none"},
          t.metrics.listen);
  v.Section("env", "Environment variables of every process of the run, over those of the launcher.");
  v.Field({"NAME", "any name, such as `OMP_PROC_BIND = \"true\"`"}, t.env);
}

}  // namespace sgmd
