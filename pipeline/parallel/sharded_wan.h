// The Wan transformer with its parameters sharded over a group of ranks.
#pragma once

#include <memory>

#include "pipeline/models/wan_transformer.h"
#include "pipeline/parallel/sharded_parameters.h"

namespace sgmd {

struct ShardedWanParts;

/// Computes what WanTransformer computes with the same parameters, bit for bit. A pass gathers what is outside of the
/// blocks, and each block when it runs; the backward pass gathers each block again, runs it again from its kept input,
/// and exchanges the gradients of what is trained. Every rank makes the same passes in the same order, each with inputs
/// of its own: in a backward pass rank r has the r-th micro-batch.
class ShardedWan : public VelocityModel {
 public:
  /// Zero parameters that do not require gradients, all of them trained; `dtypes.compute` is what Linears are gathered
  /// in. `group` outlives it.
  ShardedWan(const WanConfig& config, WanDTypes dtypes, Collectives& group, at::Device device);
  ~ShardedWan() override;

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;

  const WanConfig& config() const;
  ShardedParameters& parameters();

 private:
  std::shared_ptr<ShardedWanParts> parts_;  // shared with the graphs of passes
};

/// Whether a parameter is used in float32 at least, also where others are used in bfloat16: the float32 islands, and
/// the weights of q and k norms.
bool IsUsedWide(std::string_view name);

}  // namespace sgmd
