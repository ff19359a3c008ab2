#include "launch/plan/plan_checks.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "pipeline/models/bank_fit.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {
namespace {

constexpr double kLargestAlignment = 2 * kGibibyte;

// A section of the experiment's file, with what overrides say of it.
TomlTable SectionOfExperiment(const LaunchPlan& plan, const TomlOverrides& overrides, const std::string& section) {
  TomlOverrides of_section;
  std::ranges::copy_if(overrides, std::back_inserter(of_section),
                       [&](const auto& o) { return o.starts_with(section + "."); });
  return TomlFile::Open(plan.topology.run.experiment, of_section).root().Table(section);
}

}  // namespace

void RequirePromptBank(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides) {
  const Experiment& e = plan.experiment;
  try {
    const BankIndex bank = BankIndex::Open(e.model.prompts);
    for (const Role role : {Role::kTeacher, Role::kFakeScore, Role::kGenerator})
      RequireFits(bank, configs.Of(role), e.data.latent);
  } catch (const Error& error) {
    TomlTable model = SectionOfExperiment(plan, overrides, "model");
    model.Fail("prompts", StrCat(e.model.prompts.string(), " cannot be the prompt bank: ", error.message()),
               error.hint().empty() ? "sgmd-encode makes one" : error.hint());
  }
}

double AlignmentBytes(const Experiment& e, const RoleConfigs& configs) {
  if (e.objective.alignment == 0) return 0;
  return 4.0 * configs.TransformersOf(Role::kGenerator).trained *
         static_cast<double>(ParameterCount(configs.Of(Role::kGenerator)));
}

void RequireModelsFit(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides) {
  const Experiment& e = plan.experiment;
  for (const auto& [role, key] : {std::pair(Role::kGenerator, "student"), {Role::kFakeScore, "fake_score"}}) {
    const std::string why = WhyNotBeside(configs.Of(Role::kTeacher), configs.Of(role));
    if (why.empty()) continue;
    TomlTable model = SectionOfExperiment(plan, overrides, "model");
    model.Fail(key, StrCat(ModelOf(e, role).string(), " does not go with the teacher: ", why),
               "a model of the teacher's family with the same VAE and text encoder");
  }
  const bool alike =
      configs.Of(Role::kGenerator) == configs.Of(Role::kFakeScore) &&
      configs.TransformersOf(Role::kGenerator).trained == configs.TransformersOf(Role::kFakeScore).trained;
  if (e.objective.alignment > 0 && !alike) {
    TomlTable objective = SectionOfExperiment(plan, overrides, "objective");
    objective.Fail("alignment", "\"alignment\" is above 0, but student and fake score have other sizes",
                   "their weights are averaged: give [model] student and fake_score one size, or set alignment = 0");
  }
}

void RequireSequenceFits(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides) {
  for (const Role role : {Role::kGenerator, Role::kFakeScore}) {
    const int sharing = SequenceRanksOf(plan.experiment, {role});
    const std::int64_t heads = configs.Of(role).num_heads;
    if (heads % sharing == 0) continue;
    TomlTable section = SectionOfExperiment(plan, overrides, "sequence_parallel");
    section.Fail(Spell(role), StrCat(sharing, " ranks cannot share the ", heads, " heads of the model evenly"),
                 "a number that divides the heads");
  }
}

void RequireAlignmentFits(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides) {
  const double bytes = AlignmentBytes(plan.experiment, configs);
  if (bytes <= kLargestAlignment) return;
  TomlTable objective = SectionOfExperiment(plan, overrides, "objective");
  objective.Fail("alignment",
                 StrCat("\"alignment\" is above 0, and the student's weights are ", static_cast<std::int64_t>(bytes),
                        " bytes, which would go from the generator to the fake score in every step; at most ",
                        static_cast<std::int64_t>(kLargestAlignment), " may"),
                 "alignment = 0, or a smaller model");
}

int GpusOfThisMachine() {
  if (std::getenv(kCudaLibraryVariable) != nullptr) return std::numeric_limits<int>::max();
  int gpus = 0;
  while (std::filesystem::exists(StrCat("/dev/nvidia", gpus))) ++gpus;
  return gpus;
}

std::string MissingDevices(const LaunchPlan& plan, const std::string& host, int gpus) {
  std::string missing;
  for (const Placement& place : Placements(plan)) {
    const bool has = place.device.kind == Device::Kind::kCpu || place.device.ordinal < gpus;
    if (place.host == host && !has)
      missing += StrCat(missing.empty() ? "" : ", ", Spell(place.node), " on ", Spell(place.device));
  }
  return missing;
}

}  // namespace sgmd
