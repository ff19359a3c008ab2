#include <iostream>

#include "common/config/experiment_fields.h"
#include "common/config/field_text.h"
#include "common/config/topology_fields.h"
#include "common/failpoint/failpoint.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {

Verb ReferenceVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "reference", "Print every key of both files, as Markdown", "reference | less");
  return {verb, [] {
            std::cout << "## Experiment files\n\n"
                      << Reference(FieldTextsOf(Experiment())) << "\n## Topology files\n\n"
                      << Reference(FieldTextsOf(Topology()));
            return 0;
          }};
}

Verb FailpointsVerb(CLI::App& app) {
  CLI::App* verb =
      AddVerb(app, "failpoints", "List where SGMD_FAILPOINTS makes things go wrong, for tests", "failpoints");
  return {verb, [] {
            std::cout << failpoint::Listing();
            return 0;
          }};
}

}  // namespace sgmd
