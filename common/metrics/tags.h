// How TensorBoard groups the scalars of training.
#pragma once

#include <string>
#include <string_view>

namespace sgmd {

/// The tag of a scalar as roles name it: "generator_loss" is "loss/generator". A scalar of no group keeps its name.
///
///   loss/           generator, fake_score, diversity, fisher, negative_residual
///   grad_norm/      student, critic (as FastVideo names them)
///   learning_rate/  generator, fake_score
///   time/           step_sec, rollout_sec, wait_sec, backward_sec
///   pipeline/       staleness (updates between rollout and landing), in_flight (micro-batches between them)
///   cache/          hit_rate, anchor_hit_rate
///   stability/      <name>_ratio (a value over its recent mean), <role>_skipped_steps
std::string TagOf(std::string_view scalar);

}  // namespace sgmd
