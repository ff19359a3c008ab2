// cuDNN's attention in deterministic runs: its forward pass, which is the fastest on a Hopper GPU and always sums in
// one order.
#pragma once

#include "pipeline/models/flash_attention.h"

namespace sgmd {

/// Whether a deterministic run takes cuDNN's forward pass for inputs that LibTorch would give to FlashAttention-2
/// there. By published speeds it takes 0.63 of the time on an H100 (365 against 580 TFLOP/s). The backward pass stays
/// FlashAttention-2's: cuDNN's has no fixed order, or before its version 9.25 takes 2 B H N M bytes for one.
///
/// It takes it where LibTorch prefers cuDNN in runs that need not be deterministic, heads are at most 128 wide in
/// multiples of 8, there is more than one key, and a trial has succeeded. The answer depends on sizes, dtype and device
/// alone: a block that runs again takes the same kernel.
///
/// The trial, once a process and width of heads, on a few numbers: twice the same bits, and output, sums, and the
/// gradients that FlashAttention-2 makes of them, within bfloat16's rounding of its own. Where it fails a warning says
/// why, and FlashAttention-2 computes everything.
bool CudnnAttends(const AttentionInputs& in);

/// As FlashForward, where CudnnAttends.
AttentionResult CudnnForward(const AttentionInputs& in);

}  // namespace sgmd
