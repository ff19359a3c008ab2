// What identifies an answer of a teacher: everything that decides its bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/digest/digest.h"
#include "common/transport/envelope.h"
#include "pipeline/flow/guidance.h"

namespace sgmd {

/// What besides the lease decides a score.
struct ScorerFingerprint {
  Digest teacher;  // ModelDigest
  Guidance guidance;
  std::string compute = "float32, fused kernels";  // [precision] compute and kernels
  std::string scores = "float32";                  // [precision] scores; no part of an anchor's key
  std::string device = "cpu";                      // the kinds of devices that the teachers compute on

  /// "teacher <digest>, guidance <Guidance::Text>, in <compute>", what scores are kept in where that is not float32,
  /// and the device where it is not the CPU.
  std::string Text() const;
};

/// The trajectory that ends in an anchor (pipeline/objectives/diversity.h): `steps` of a grid of `grid` steps with
/// `shift`.
struct AnchorSettings {
  std::int64_t steps = 0, grid = 0;
  double shift = 0;
};

/// XXH3-128 over length-prefixed (fingerprint, then dtype, shape and bytes of every tensor of the lease, in its order):
/// what a lease gains, such as a conditioning beside the prompts, is in the key.
Digest ScoreKey(const ScorerFingerprint& scorer, std::span<const TensorFrame> lease_tensors);

/// XXH3-128 over length-prefixed ("anchor", fingerprint, settings, then the lease's tensors as above): no score and no
/// anchor of another trajectory has it.
Digest AnchorKey(const ScorerFingerprint& scorer, const AnchorSettings& settings,
                 std::span<const TensorFrame> lease_tensors);

}  // namespace sgmd
