// All randomness of sgmd: a pure function of (run seed, step, index, purpose). Drawn on the CPU in float32 whatever the
// device, so that results do not depend on timing, topology or hardware.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace sgmd {

/// The seed of one draw: XXH3-128 of the four fields, folded to 64 bits. `purpose` names the draw, such as
/// "rollout_noise".
std::uint64_t SeedFor(std::uint64_t run_seed, std::int64_t step, std::int64_t index, std::string_view purpose);

/// Standard normal float32 CPU tensor.
at::Tensor Noise(at::IntArrayRef shape, std::uint64_t seed);

/// Uniform [0, 1) float32 CPU tensor.
at::Tensor Uniform(at::IntArrayRef shape, std::uint64_t seed);

/// Uniform integers in [low, high), int64 CPU tensor [count].
at::Tensor Integers(std::int64_t low, std::int64_t high, std::int64_t count, std::uint64_t seed);

}  // namespace sgmd
