// The keys of a run: who has one, and new ones for all.
#include <iostream>
#include <memory>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "launch/run/run_control.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

int Keys(const std::filesystem::path& target, bool rotate) {
  const LaunchPlan plan = LoadRun(FindRunFolder(target));
  const std::filesystem::path folder = RunFolder{plan.topology.run.folder}.Keys();
  const bool encrypted = plan.topology.transport.encrypt;
  if (rotate) {
    const RunLock down(plan.topology.run.folder);  // its processes hold the old ones
    RotateRunKeys(folder, UsersOf(plan), encrypted);
    std::cout << "new keys are in " << folder.string()
              << ": where hosts have copies of it, copy it again; the next `up` uses them\n";
    return 0;
  }
  LoadGateKeys(folder, UsersOf(plan), encrypted);
  std::cout << folder.string() << (encrypted ? ": a key pair each of\n" : ": one token (nothing is encrypted) of\n");
  for (const std::string& user : UsersOf(plan)) std::cout << "  " << user << "\n";
  return 0;
}

}  // namespace

Verb KeysVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "keys", "Show who has a key of the run, or make new ones while it is down",
                           "keys runs/demo\nkeys runs/demo --rotate");
  const auto target = std::make_shared<std::filesystem::path>();
  const auto rotate = std::make_shared<bool>(false);
  AddTarget(*verb, *target);
  verb->add_flag("--rotate", *rotate, "Replace all of them: who has the old ones gets in no longer");
  return {verb, [=] { return Keys(*target, *rotate); }};
}

}  // namespace sgmd
