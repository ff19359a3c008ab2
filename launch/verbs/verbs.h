// What sgmd-launch does. A verb adds its own words to the command line and says what to do where it is given.
#pragma once

#include <functional>

#include "common/command_line/command_line.h"

namespace sgmd {

struct Verb {
  CLI::App* command = nullptr;
  std::function<int()> run;  // returns the exit code
};

Verb PlanVerb(CLI::App& app);
Verb UpVerb(CLI::App& app);
Verb ReplayVerb(CLI::App& app);
Verb StatusVerb(CLI::App& app);
Verb WaitVerb(CLI::App& app);
Verb HistoryVerb(CLI::App& app);
Verb PsVerb(CLI::App& app);
Verb LogsVerb(CLI::App& app);
Verb ScaleVerb(CLI::App& app);
Verb DownVerb(CLI::App& app);
Verb KeysVerb(CLI::App& app);
Verb CompletionVerb(CLI::App& app);  // of `app` as it is when the verb runs
Verb ReferenceVerb(CLI::App& app);
/// Lists where SGMD_FAILPOINTS makes things go wrong (common/failpoint).
Verb FailpointsVerb(CLI::App& app);

}  // namespace sgmd
