// What a Wan transformer costs, from its sizes alone: parameters, tokens, FLOPs, activation bytes. No LibTorch.
//
// Symbols (wan_facts §1, §7): L blocks, width D, feed-forward width F, H heads, N latent tokens, M = text_len text
// rows, K CLIP tokens: 257 of a model that takes them, else 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// Parameters of the whole model (wan_facts §1.2), and of one block.
std::int64_t ParameterCount(const WanConfig& config);
std::int64_t BlockParameterCount(const WanConfig& config);

/// Parameters of rank-r adapters (A [r, in], B [out, r]) on the Linears of every block whose names end in one of
/// `targets` (wan_facts §5 "LoRA"): "q" stands for self- and cross-attention, "ffn.0" for itself. Throws Error on one
/// that none ends in.
std::int64_t LoraParameterCount(const WanConfig& config, std::int64_t rank, const std::vector<std::string>& targets);

/// N of one latent video [C, F, H, W]. Throws Error unless C is out_dim and the extents divide into patches.
std::int64_t TokenCount(const WanConfig& config, const std::vector<std::int64_t>& latent);

/// Floating-point operations of one sample's forward pass, a multiply-add counted as two (wan_facts §7):
///   linear           L 2(6 N D^2 + 2 M D^2 + 2 N D F) + 2 N P(Cin + Cout) D + 2 M (T D + D^2), P the patch volume, T
///                    text_dim
///   self_attention   L 4 N^2 D
///   cross_attention  L 4 N (M + K) D
/// CLIP tokens of width E add L 4 K D^2 + 2 K (E^2 + E D) to linear.
/// Norms, gates and the timestep embedding are left out: below a thousandth at real sizes.
struct ForwardFlops {
  double linear = 0, self_attention = 0, cross_attention = 0;
  double total() const { return linear + self_attention + cross_attention; }
};
ForwardFlops ForwardFlopsOf(const WanConfig& config, std::int64_t tokens);

/// What a backward pass reaches: it decides what the forward pass must keep.
enum class Backward {
  kNone,      // a forward pass without gradients
  kInput,     // the latents alone: the fake score when it gives the generator its gradient
  kAdapters,  // LoRA adapters; the model's own parameters are frozen
  kFull,      // every parameter
};

/// Elements kept per sample by one block, by dtype.
struct SavedElements {
  double wide = 0;    // float32 whatever the compute dtype: norm and modulation arithmetic, statistics
  double narrow = 0;  // of the compute dtype: inputs of Linears and of attention
};

/// What autograd keeps of one block's forward pass, counted from RunBlock of the transformer; attention must be a fused
/// kernel (an N x N matrix is not counted). By part of the block, in units of N D (M D for text rows, N F where it says
/// so), everything in the compute dtype with Kernels::kFused:
///
///                                          kFull                         kAdapters            kInput
///   3 norms: their inputs                  3                             3                    3
///   gates: what is added (sa, ff out)      2                             -                    -
///   q, k RMS norm, self: raw               2                             2                    2
///   q RMS norm, cross: raw                 1                             1                    1
///   k RMS norm, cross: raw (M D)           1                             1                    -
///   inputs of q k v, of cross q, of ffn.0  3                             3                    -
///   self-attention: q, k, v, out           4                             4                    4
///   cross-attention: q, out / k, v (M D)   2 / 2                         2 / 2                2 / 2
///   GELU: in, out (N F)                    2                             2                    1 (in)
///   low-rank inner products                -                             r (8 N + 2 M)        -
///   sum                              17 N D + 3 M D + 2 N F   15 N D + 3 M D + 2 N F + ..   12 N D + 2 M D + N F
///
/// With Kernels::kReference, whose chains keep what they compute in between:
///
///                                          kFull                         kAdapters            kInput
///   3 norms: their inputs                  3 wide                        3 wide               3 wide
///   modulation: normalised x2, sa, ff out  4 wide                        -                    -
///   q, k RMS norm, self: raw, normalised   4 wide                        2 wide (raw)         2 wide (raw)
///   q RMS norm, cross: raw, normalised     2 wide                        1 wide (raw)         1 wide (raw)
///   k RMS norm, cross (M D)                2 wide                        1 wide (raw)         -
///   inputs of q k v, of cross q, of ffn.0  3                             3                    -
///   self-attention: q, k, v, out           4                             4                    4
///   cross-attention: q, out / k, v (M D)   2 / 2                         2 / 2                2 / 2
///   GELU: in, out (N F)                    2                             2                    1 (in)
///   low-rank inner products                -                             r (8 N + 2 M)        -
///   sum                              22 N D + 4 M D + 2 N F   15 N D + 3 M D + 2 N F + ..   12 N D + 2 M D + N F
///
/// and N (2 H + 9) + M wide statistics (log-sum-exp of attention, means and deviations).
///
/// CLIP tokens add N H + K statistics and, of their attention, its output, the sum of both outputs where o's input is
/// kept, keys and values, and what the norm of the keys takes: kFull 2 N D + 3 K D (with kReference 2 of the K D wide,
/// and 2 more of the compute dtype), kAdapters 2 N D + 2 K D, kInput N D + 2 K D.
SavedElements BlockSavedElements(const WanConfig& config, std::int64_t tokens, Backward backward,
                                 std::int64_t lora_rank = 0, Kernels kernels = Kernels::kFused);

/// How a pass is run.
struct PassSettings {
  Backward backward = Backward::kNone;
  std::int64_t samples = 1;        // videos in the batch
  std::int64_t compute_bytes = 4;  // 4 float32, 2 bfloat16: Linears, attention, and the residual stream between blocks
  bool checkpoint_blocks = false;  // keep the input of every block, run the block again in the backward pass
  std::int64_t lora_rank = 0;
  Kernels kernels = Kernels::kFused;
  bool keep_attention = false;  // of blocks that run again: N D elements and 4 N H bytes a block
  // The last so many of those, all where it is more, keep everything and do not run again.
  std::int64_t keep_blocks = 0;
  bool twice = false;  // the graph stays for a second backward pass
};

/// Inputs of all blocks: N D L stream bytes a sample (wan_facts §7: 2 N D L in bf16, twice that with a float32 stream).
double CheckpointBytes(const WanConfig& config, std::int64_t tokens, std::int64_t samples, std::int64_t stream_bytes);

/// Blocks that run again in the backward pass: those with checkpoint_blocks that are not kept.
std::int64_t BlocksAgain(const WanConfig& config, const PassSettings& pass);

/// Bytes that the graph of a forward pass keeps until its backward pass: kept by blocks that do not run again + inputs
/// (with keep_attention also attentions) of those that do + outside of the blocks (below). 0 for kNone.
double GraphBytes(const WanConfig& config, std::int64_t tokens, const PassSettings& pass);

/// Bytes that FlashAttention-2's backward pass takes for itself on a GPU with 132 multiprocessors (H100, H200), for
/// `heads` heads of all `tokens`: the gradient of the queries in float32; where it is to be deterministic one for each
/// of the ceil(132 / (samples heads)) blocks that would add to it in any order.
double AttentionWorkspaceBytes(const WanConfig& config, std::int64_t tokens, std::int64_t samples, std::int64_t heads,
                               bool deterministic);

/// Most bytes of activations alive at any time of a pass:
///   kNone                without gradients: the larger of attention's 8 N D and the feed-forward's 2 N D + 2 N F
///   otherwise            GraphBytes + the backward pass's own 4 N D + 2 N F
///   blocks run again     GraphBytes + kept by one block + the backward pass's own; without that one block where some
///                        are kept, unless `twice`: they are let go before the first block runs again
/// Outside of the blocks, kFull keeps 2 N D (head), the patches N P Cin, M (T + 3 D) of the text embedding, and of CLIP
/// tokens K (4 E + 2 D); the others N D, M D and K D. With Kernels::kReference attention has 4 N D and 5 wide N D
/// without gradients, the backward pass's own 4 N D are wide, and the head keeps 2 N D wide and N D, of the others N D
/// wide. Held against every allocation of real passes (tests/pipeline/wan_activation_test.cc): up to a quarter more
/// than is used, never noticeably less. Copies of weights in another dtype are not counted here.
double ActivationBytes(const WanConfig& config, std::int64_t tokens, const PassSettings& pass);

}  // namespace sgmd
