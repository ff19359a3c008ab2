// What an outer iteration costs, from its settings alone: the owner of the counts that a plan shows and that the roles
// reach as they work. No LibTorch.
#pragma once

#include "common/config/experiment.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// Work on one sample (work.h), a mean over the run where a draw decides. An outer iteration does `gradient` and
/// `exit_step` on each of its samples, `rollout` and `score` where it rolls out (every `reuse`-th does), `anchor` for
/// uncached_anchors of its samples, and `inner` (with `fresh` where samples are fresh) R times.
struct StepCost {
  double rollout = 0;       // generator: student steps to the exit step, without gradient
  double score = 0;         // teacher: 2 with guidance, else 1
  double gradient = 0;      // fake score: dL/dx_g
  double exit_step = 0;     // generator: the exit step again, with gradient; a mean over uses where its graph is kept
  double diversity = 0;     // generator: the first step with gradient, where the diversity loss is on; else 0
  double anchor = 0;        // teacher: the anchor of one sample, where the diversity loss is on; else 0
  double inner = 0;         // fake score: one sample of one inner update; of `paired` ones without the shared pass
  double fresh = 0;         // generator: a further rollout for it; 0 where inner samples are not fresh
  double rolled_out = 1;    // share of outer iterations that roll out
  double uncached_anchors;  // samples of an outer iteration whose anchor is computed: each of the bank once in a run

  /// Of an outer iteration, forward-equivalents of all its samples, a mean over those that roll out and those that do
  /// not.
  double generator = 0, fake_score = 0, teachers = 0;
};

/// `generator_again`, `fake_again`: the share of a forward pass that the role runs again in a backward pass: 0, 1 with
/// checkpoint_blocks, less where attention or blocks are kept. The roles' own counts (work.h) take it as a whole pass
/// unless nothing at all runs again.
/// `graphs_kept`: of what share of the micro-batches the backward pass takes the rollout's own exit step.
StepCost StepCostOf(const Experiment& experiment, double generator_again, double fake_again, double graphs_kept = 0);

}  // namespace sgmd
