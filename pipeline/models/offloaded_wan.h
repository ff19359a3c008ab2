// The Wan transformer with its blocks in the host's memory: for a frozen model that the device cannot hold.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/offloaded_blocks.h"
#include "pipeline/models/wan_forward.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {

/// Computes what WanTransformer computes with the same parameters, bit for bit. On the device are what is outside of
/// the blocks, and two blocks (OffloadedBlocks). Frozen. Movable. Not for use by several threads at once.
class OffloadedWan : public VelocityModel {
 public:
  /// As WanTransformer::Load. The blocks go from the files to the host's memory, and not to the device.
  static OffloadedWan Load(const std::filesystem::path& model, at::Device device, WanPrecision precision = {});

  /// As WanTransformer::Forward, but without gradients: throws where a graph would be recorded.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;

  const WanConfig& config() const { return config_; }

 private:
  /// `outside`: gives the parameters that are in no block.
  OffloadedWan(const WanConfig& config, at::Device device, WanPrecision precision, const ParameterSource& outside);

  WanConfig config_;
  WanPrecision precision_;
  WanStem stem_;
  WanHead head_;
  mutable OffloadedBlocks blocks_;
  mutable RopeTables ropes_;
};

}  // namespace sgmd
