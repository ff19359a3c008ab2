// Activation checkpointing: memory for time. Of a function that autograd would record, only the inputs are kept.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace sgmd {

/// What a backward pass computes again in place of keeping it.
struct Recomputation {
  bool blocks = false;           // a block, of which only the inputs are kept
  bool keep_attention = false;   // but not its self-attention, whose output is kept beside them (attention.h)
  std::int64_t keep_blocks = 0;  // and not the last so many blocks, of which everything is kept

  Recomputation(bool run_blocks_again = false, bool and_keep_attention = false,  // NOLINT: a bool reads as the first
                std::int64_t and_keep_blocks = 0)
      : blocks(run_blocks_again), keep_attention(and_keep_attention), keep_blocks(and_keep_blocks) {}

  /// Whether block `number` of `layers` runs again, and whether any does. The backward pass begins with the last
  /// blocks: what they kept is let go before the others run again.
  bool OfBlock(std::int64_t number, std::int64_t layers) const { return blocks && number < layers - keep_blocks; }
  bool OfAnyBlock(std::int64_t layers) const { return OfBlock(0, layers); }
};

/// run(inputs) with one node in the graph in place of all that `run` does. The backward pass calls `run` again, with
/// gradients, on the same inputs, and passes on the gradients of `inputs` and of `parameters`, those that are asked for
/// and no other: so both .backward() and torch::autograd::grad work. `run` must be a pure function of `inputs` and
/// `parameters`; it holds its parameters itself and reads `inputs` only from its argument. Not differentiable twice.
/// Where no gradient is to be recorded it is simply run(inputs). `keep_attention`: the second run takes the attentions
/// that may be kept from the first.
at::Tensor Checkpoint(std::function<at::Tensor(const std::vector<at::Tensor>& inputs)> run,
                      const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters,
                      bool keep_attention = false);

}  // namespace sgmd
