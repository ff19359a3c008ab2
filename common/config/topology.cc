#include "common/config/topology.h"

#include <set>

#include "common/config/field_text.h"
#include "common/config/placement.h"
#include "common/config/toml_reader.h"
#include "common/config/topology_fields.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr const char* kKeeping[] = {"auto", "always", "never"};

constexpr std::size_t kMaxIpcPath = 100;  // sockaddr_un holds 107 bytes

std::string DefaultEndpoint(const std::filesystem::path& run_folder, const std::string& name) {
  std::filesystem::path path = run_folder / "sockets" / (name + ".ipc");
  if (path.string().size() > kMaxIpcPath) {
    path = std::filesystem::path("/tmp") / ("sgmd-" + DigestText(run_folder.string()).Hex()) / (name + ".ipc");
  }
  return "ipc://" + path.string();
}

// What a group of ranks asks of the experiment, and what that asks of it.
void CheckGroup(const LaunchPlan& plan, TomlTable table, Role of, std::int64_t micro_batches) {
  const NodeName role{of};
  const int ranks = RanksOf(plan.topology, role), sharing = SequenceRanksOf(plan.experiment, role);
  if (ranks % sharing != 0) {
    table.Fail("devices",
               StrCat(ranks, ranks == 1 ? " device is" : " devices are", " no multiple of [sequence_parallel] ",
                      Spell(of), " = ", sharing),
               "as many ranks share the tokens of a micro-batch; sgmd-launch plan --balance 8x80gb finds them devices");
  }
  const int round = RoundOf(plan, role);
  if (micro_batches % round != 0) {
    table.Fail("devices", StrCat(round, " ranks cannot share ", micro_batches, " micro-batches of a step evenly"),
               "name as many devices as divide [data] micro_batches, or [outer] land where that is less");
  }
  if (round > 1 && plan.experiment.inner.pace == InnerPacing::kFree && of == Role::kFakeScore) {
    table.Fail("devices", "[inner] pace = \"free\" goes one micro-batch at a time, which ranks cannot share",
               "one device, or pace = \"locked\"");
  }
}

}  // namespace

std::span<const char* const> SpellingsOf(Keep) { return kKeeping; }

void ResolveDefaults(Topology& t) {
  if (t.cache.folder.empty()) t.cache.folder = t.run.folder / "cache";
  if (t.transport.data.empty()) t.transport.data = DefaultEndpoint(t.run.folder, "data");
  if (t.transport.control.empty()) t.transport.control = DefaultEndpoint(t.run.folder, "control");
}

std::vector<std::string> HostsOf(const Topology& t) {
  return t.run.hosts.empty() ? std::vector<std::string>{""} : t.run.hosts;
}

Topology OnOneHost(Topology t) {
  t.run.hosts.clear();
  t.teacher.hosts.clear();
  t.generator.host = t.fake_score.host = t.evaluator.host = t.transport.data = t.transport.control = "";
  ResolveDefaults(t);
  return t;
}

namespace {

// Pixels that a latent pixel stands for (wan_facts §3): 8 of the Wan2.1 VAE, 16 of the Wan2.2 VAE; 1 where it is not
// known.
std::int64_t PixelsOfALatent(std::int64_t channels) { return channels == 48 ? 16 : channels == 16 ? 8 : 1; }

void CheckTiles(const LaunchPlan& plan, const TomlTable& evaluator) {
  const std::int64_t tile = plan.topology.evaluator.vae_tile,
                     factor = PixelsOfALatent(plan.experiment.data.latent.front());
  if (tile == 0 || (tile % factor == 0 && tile >= 2 * factor)) return;
  evaluator.Fail("vae_tile",
                 StrCat("tiles of ", tile, " pixels; the VAE of ", plan.experiment.data.latent.front(),
                        " channels takes multiples of ", factor, ", at least ", 2 * factor),
                 "256 is usual; 0 decodes whole frames");
}

// What the experiment's videos are looked at with.
void CheckEvaluator(const LaunchPlan& plan, const TomlTable& evaluator) {
  const Topology::Evaluator& settings = plan.topology.evaluator;
  if (!settings.enabled) return;
  if (!LatentsArePixels(plan.experiment) && settings.vae.empty())
    evaluator.Fail("enabled", "evaluating a model with latents needs \"vae\"",
                   "vae = \"<a Diffusers folder, or its vae/>\", of the model that is distilled");
  if (!LatentsArePixels(plan.experiment)) CheckTiles(plan, evaluator);
  if (LatentsArePixels(plan.experiment) && settings.features.empty())
    evaluator.Fail("enabled", "evaluating needs \"features\"",
                   "features = \"../models/bouncing_ball_features.safetensors\"");
}

}  // namespace

LaunchPlan LoadLaunchPlan(const std::filesystem::path& topology_path, RequiredFiles needed,
                          const TomlOverrides& overrides, Groups groups) {
  std::set<std::string> sections;
  for (const FieldText& field : FieldTextsOf(Topology())) sections.insert(field.section);
  TomlOverrides of_topology, of_experiment;
  for (const std::string& text : overrides) {
    (sections.contains(text.substr(0, text.find('.'))) ? of_topology : of_experiment).push_back(text);
  }
  LaunchPlan plan;
  plan.topology = ReadTopology(topology_path, of_topology);
  ResolveDefaults(plan.topology);
  plan.experiment = LoadExperiment(plan.topology.run.experiment, needed, of_experiment);
  TomlTable root = TomlFile::Open(topology_path, of_topology).root();
  CheckEvaluator(plan, root.Table("evaluator"));
  if (groups == Groups::kAreReplaced) return plan;
  CheckGroup(plan, root.Table("generator"), Role::kGenerator, LandedMicroBatches(plan.experiment));
  CheckGroup(plan, root.Table("fake_score"), Role::kFakeScore, plan.experiment.data.micro_batches);
  return plan;
}

std::string ToToml(const Topology& t) { return ToToml(FieldTextsOf(t)); }

namespace {

void CopyRecord(const Experiment& experiment, const RunFolder& from, const RunFolder& to) {
  WritePauses(to, PausesOf(from));
  if (experiment.inner.pace != InnerPacing::kFree) return;
  if (!std::filesystem::exists(from.Pace()))
    throw Error("the run to replay has a free pace, and no record of it", from.Pace().string(),
                "record the run with `up` first");
  WriteFileAtomically(to.PaceToFollow(), ReadFile(from.Pace()));
}

}  // namespace

void SaveRun(const LaunchPlan& plan) {
  const RunFolder folder{plan.topology.run.folder};
  std::filesystem::create_directories(folder.Experiment().parent_path());
  Topology topology = plan.topology;
  topology.run.experiment = folder.Experiment();
  WriteFileAtomically(folder.Experiment(), ToToml(plan.experiment));
  WriteFileAtomically(folder.Topology(), ToToml(topology));
  if (!plan.recorded.empty()) CopyRecord(plan.experiment, {plan.recorded}, folder);
}

LaunchPlan LoadRun(const std::filesystem::path& run_folder) {
  const RunFolder folder{std::filesystem::absolute(run_folder)};
  if (!std::filesystem::exists(folder.Topology())) {
    throw Error("not a run folder", folder.root.string(), "sgmd-launch up <topology.toml> makes one");
  }
  LaunchPlan plan = LoadLaunchPlan(folder.Topology());
  plan.experiment.rollbacks = static_cast<std::int64_t>(RollbacksOf(folder).size());
  plan.experiment.pauses = PausesOf(folder);
  plan.start = ReadRunStart(folder);
  return plan;
}

}  // namespace sgmd
