// The Wan transformer with its parameters sharded over a group of ranks.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "pipeline/models/wan_transformer.h"
#include "pipeline/parallel/sharded_parameters.h"

namespace sgmd {

struct ShardedWanParts;

/// What is sharded of a model, and in which precision.
struct ShardedWanForm {
  WanPrecision precision;
  LoraConfig lora;                   // with rank > 0 only adapters are trained, over a frozen base
  bool trained = true;               // else all of it is frozen
  Collectives* sequence = nullptr;   // ranks that share the tokens of a pass; outlives the model
  Recomputation recompute = {true};  // blocks always run again, but those that are kept
};

/// Computes what WanTransformer computes with the same parameters, bit for bit. A pass gathers what is outside of the
/// blocks, and each block when it runs; the backward pass gathers each block again, runs it again from its kept input,
/// and exchanges the gradients of what is trained. Of blocks whose graph is kept (Recomputation::keep_blocks) that also
/// holds the gathered weights, until the backward pass has been there. Every rank makes the same passes in the same
/// order, each with inputs of its own: in a backward pass rank r has the r-th micro-batch. Ranks that share tokens have
/// the same inputs.
class ShardedWan : public VelocityModel {
 public:
  /// Zero parameters that do not require gradients. `group` outlives it.
  ShardedWan(const WanConfig& config, const ShardedWanForm& form, Collectives& group, at::Device device);
  ~ShardedWan() override;
  ShardedWan(ShardedWan&&) noexcept;

  /// As WanTransformer::Load and WithAdapters, which draws the adapters from `seed`. Every rank goes through the files
  /// and takes its part of them.
  static ShardedWan Load(const std::filesystem::path& model, const ShardedWanForm& form, std::uint64_t seed,
                         Collectives& group, at::Device device);

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;
  /// Takes part in a pass of the others, forward and without gradients, with no inputs of its own.
  void SkipForward() const;

  const WanConfig& config() const;
  ShardedParameters& parameters();
  const ShardedParameters& parameters() const;

 private:
  std::shared_ptr<ShardedWanParts> parts_;  // shared with the graphs of passes
};

/// How what is trained of a model lies in units and segments, whatever the number of ranks. `trained`: the model's
/// names and shapes.
std::vector<ShardUnit> LayOutTrained(const NamedTensors& trained, WanPrecision precision);

}  // namespace sgmd
