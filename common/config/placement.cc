#include "common/config/placement.h"

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr char kClient[] = "client";  // whoever asks or orders by hand, from any host

// A checked field of a topology.
Device DeviceNamed(const std::string& text) {
  if (const auto device = ParseDevice(text)) return *device;
  throw Error(StrCat("\"", text, "\" is not a device"), {}, kDeviceForms);
}

void PlaceTrained(const Topology::TrainedRole& role, std::int64_t threads, Placement& p) {
  p.host = role.host;
  const auto rank = static_cast<std::size_t>(p.node.rank);
  p.device = DeviceNamed(rank < role.devices.size() ? role.devices[rank] : role.device);
  p.threads = threads;
  p.device_memory_gib = role.device_memory_gib;
  p.checkpoint_blocks = role.checkpoint_blocks || role.ranks() > 1;
  p.keep_attention = p.checkpoint_blocks && role.keeps_attention();
  p.keep_blocks = p.checkpoint_blocks ? std::max<std::int64_t>(role.keep_blocks, 0) : 0;
}

void PlaceTeacher(const Topology::Teacher& teacher, Placement& p) {
  const std::vector<std::string>& devices = teacher.devices;
  const std::vector<std::string>& hosts = teacher.hosts;
  const auto replica = static_cast<std::size_t>(p.node.replica);
  const std::size_t place = replica * static_cast<std::size_t>(teacher.ranks) + static_cast<std::size_t>(p.node.rank);
  p.device = DeviceNamed(devices.empty() ? teacher.device : devices[place % devices.size()]);
  if (!hosts.empty()) p.host = hosts[(devices.empty() ? replica : place) % hosts.size()];
  p.threads = teacher.threads;
  p.device_memory_gib = teacher.device_memory_gib;
  p.offload = teacher.offload;
}

}  // namespace

std::string Placement::DeviceOfHost() const { return host.empty() ? Spell(device) : host + "/" + Spell(device); }

int RanksOf(const Topology& t, const NodeName& node) {
  if (node.role == Role::kGenerator) return t.generator.ranks();
  if (node.role == Role::kFakeScore) return t.fake_score.ranks();
  return node.role == Role::kTeacher ? static_cast<int>(t.teacher.ranks) : 1;
}

int SequenceRanksOf(const Experiment& e, const NodeName& node) {
  if (node.role == Role::kGenerator) return static_cast<int>(e.sequence_parallel.generator);
  return node.role == Role::kFakeScore ? static_cast<int>(e.sequence_parallel.fake_score) : 1;
}

int RoundOf(const LaunchPlan& plan, const NodeName& node) {
  return RanksOf(plan.topology, node) / SequenceRanksOf(plan.experiment, node);
}

Placement PlacementOf(const LaunchPlan& plan, const NodeName& node) {
  const Topology& t = plan.topology;
  Placement p;
  p.node = node;
  if (node.role == Role::kGenerator) PlaceTrained(t.generator, plan.experiment.threads.generator, p);
  if (node.role == Role::kFakeScore) PlaceTrained(t.fake_score, plan.experiment.threads.fake_score, p);
  if (node.role == Role::kTeacher) PlaceTeacher(t.teacher, p);
  if (node.role == Role::kEvaluator) {
    p.host = t.evaluator.host;
    p.device = DeviceNamed(t.evaluator.device);
    p.device_memory_gib = t.evaluator.device_memory_gib;
    p.threads = t.evaluator.threads;
  }
  if (t.run.hosts.empty()) p.host.clear();
  if (!t.run.hosts.empty() && p.host.empty()) p.host = t.run.hosts.front();
  return p;
}

std::vector<Placement> Placements(const LaunchPlan& plan) {
  std::vector<Placement> all;
  const auto add = [&](Role role, int replica = 0) {
    for (NodeName node{role, replica}; node.rank < RanksOf(plan.topology, node); ++node.rank)
      all.push_back(PlacementOf(plan, node));
  };
  add(Role::kBroker);
  add(Role::kGenerator);
  add(Role::kFakeScore);
  for (int replica = 0; replica < plan.topology.teacher.replicas; ++replica) add(Role::kTeacher, replica);
  if (plan.topology.evaluator.enabled) add(Role::kEvaluator);
  return all;
}

std::string UserOf(const LaunchPlan& plan, std::string_view name) {
  const std::string role(name.substr(0, name.find_first_of("./")));
  if (plan.topology.run.hosts.empty() || role == kClient) return role;
  std::string host = plan.topology.run.hosts.front();
  if (const auto node = ParseNodeName(name)) {
    host = PlacementOf(plan, *node).host;
  } else if (role.size() < name.size()) {
    host = name.substr(role.size() + 1);  // of a launcher
  }
  return StrCat(role, "@", host);
}

std::vector<std::string> UsersOf(const LaunchPlan& plan) {
  std::vector<std::string> users{kClient};
  for (const std::string& host : HostsOf(plan.topology)) {
    for (const Role role : {Role::kGenerator, Role::kFakeScore, Role::kTeacher, Role::kLauncher}) {
      users.push_back(host.empty() ? Spell(role) : StrCat(Spell(role), "@", host));
    }
  }
  return users;
}

}  // namespace sgmd
