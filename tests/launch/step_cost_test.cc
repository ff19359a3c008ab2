// The plan's formula for the work of a step, held against the work that the roles count as they do it.
#include "pipeline/training/step_cost.h"

#include <gtest/gtest.h>

#include "common/error/error.h"
#include "tests/support/serial_loop.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

struct Case {
  const char *objective, *source;
  bool checkpoint_blocks, diversity;
  const char* more = "";
  std::int64_t reuse = 1;
  bool graph_kept = false;
};

class StepCosts : public testing::TestWithParam<Case> {};

// The exit step is fixed, and the noise bank holds an entry for every sample of the run: the formula's means are exact.
TEST_P(StepCosts, AreWhatTheRolesCount) {
  const Case& c = GetParam();
  TinyRun run(2, StrCat("[objective]\nname = \"", c.objective, "\"\n[inner]\nsource = \"", c.source,
                        "\"\n[schedule]\nexit_weights = [0, 0, 1, 0]\n",
                        c.diversity ? "[diversity]\nweight = 0.05\nnoise_bank = 12\n" : "", c.more));
  Experiment e = run.experiment();
  e.outer.reuse = c.reuse;
  const SerialOptions options{.checkpoint_blocks = c.checkpoint_blocks, .keep_exit_graph = c.graph_kept};
  const double counted = RunSerially(e, run.folder() / "serial", options).forward_equivalents_per_sample;
  const StepCost cost = StepCostOf(e, c.checkpoint_blocks, c.checkpoint_blocks, c.graph_kept ? 1 : 0);
  EXPECT_NEAR((cost.generator + cost.fake_score + cost.teachers) / 6, counted, 1e-9);
}

INSTANTIATE_TEST_SUITE_P(
    All, StepCosts,
    testing::Values(Case{"sgmd", "shared", false, false}, Case{"sgmd", "shared", true, true},
                    Case{"sgmd", "fresh", false, true}, Case{"sgmd", "fresh", true, false},
                    Case{"sgmd", "fresh_after", false, false}, Case{"sgmd", "replay", false, false},
                    Case{"sgmd", "replay", true, true}, Case{"dmd2", "shared", false, true},
                    Case{"dmd2", "shared", true, false}, Case{"dmd2", "fresh", true, true},
                    Case{"dmd2", "replay", false, false}, Case{"sgmd", "paired", false, false},
                    Case{"sgmd", "paired", true, false}, Case{"sgmd", "shared", false, true, "", 2},
                    Case{"sgmd", "paired", true, true, "", 1, true}, Case{"sgmd", "shared", false, false, "", 2, true},
                    Case{"sgmd", "fresh", true, true, "[lora]\nrank = 2\n"}),
    [](const auto& info) {
      const Case& c = info.param;
      return StrCat(c.objective, "_", c.source, c.checkpoint_blocks ? "_again" : "", c.diversity ? "_diverse" : "",
                    *c.more ? "_adapters" : "", c.reuse > 1 ? "_reused" : "", c.graph_kept ? "_kept" : "");
    });

}  // namespace
}  // namespace sgmd
