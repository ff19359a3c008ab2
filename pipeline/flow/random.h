// All randomness of sgmd: a pure function of (run seed, step, index, purpose). Numbers are drawn on the CPU whatever
// the device, so that results do not depend on timing, topology or hardware.
//
// The generator is Philox4x32-10 (philox.h). Its key is the 64-bit seed, low word first; all 64 bits count. Its counter
// is (b mod 2^32, b / 2^32, kind, attempt), so element i of a draw is a function of (seed, i) alone, however many
// elements are asked for. With w the words of a block:
//   Uniform   kind 0: element i is (w[i mod 4] of block i / 4, less its low 8 bits) / 2^32: a multiple of 2^-24
//   Noise     kind 1: block b gives elements 4b .. 4b + 3 by Box-Muller, two from (w[0], w[1]), two from (w[2], w[3]):
//             r cos a and r sin a with r = sqrt(-2 ln((w[0] + 1) / 2^32)) <= 6.67 and a = 2 pi w[1] / 2^32, computed in
//             float64, rounded to float32
//   Integers  kind 2: element i is low + (w n) / 2^64 with n = high - low, w = w[0] + 2^32 w[1] of block i. A product
//             whose low 64 bits are below 2^64 mod n would favour some values (Lemire 2019); it is drawn again with the
//             next attempt
// Logarithm, sine and cosine are polynomials in float64 of our own, as those of the C library differ in their last bit
// between processors. Only IEEE operations are left, which are the same everywhere.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace sgmd {

/// The seed of one draw: XXH3-128 of the four fields, folded to 64 bits. `purpose` names the draw, such as
/// "rollout_noise".
std::uint64_t SeedFor(std::uint64_t run_seed, std::int64_t step, std::int64_t index, std::string_view purpose);

/// Standard normal numbers, a float32 CPU tensor.
at::Tensor Noise(at::IntArrayRef shape, std::uint64_t seed);

/// Uniform numbers in [0, 1), a float32 CPU tensor.
at::Tensor Uniform(at::IntArrayRef shape, std::uint64_t seed);

/// Uniform integers in [low, high), an int64 CPU tensor [count]. low < high.
at::Tensor Integers(std::int64_t low, std::int64_t high, std::int64_t count, std::uint64_t seed);

/// A uniform permutation of 0 .. count - 1 (Fisher-Yates; place i, from the last, is exchanged with a place drawn in
/// [0, i] as element i of Integers).
std::vector<std::int64_t> Permutation(std::int64_t count, std::uint64_t seed);

}  // namespace sgmd
