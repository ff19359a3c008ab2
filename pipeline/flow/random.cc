#include "pipeline/flow/random.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "common/digest/digest.h"

namespace sgmd {
namespace {

at::Generator GeneratorFor(std::uint64_t seed) { return at::detail::createCPUGenerator(seed); }

}  // namespace

std::uint64_t SeedFor(std::uint64_t run_seed, std::int64_t step, std::int64_t index, std::string_view purpose) {
  Hasher hasher;
  hasher.Integer(run_seed)
      .Integer(static_cast<std::uint64_t>(step))
      .Integer(static_cast<std::uint64_t>(index))
      .Text(purpose);
  const Digest digest = hasher.Finish();
  return digest.hi ^ digest.lo;
}

at::Tensor Noise(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, GeneratorFor(seed), at::TensorOptions(at::kFloat));
}

at::Tensor Uniform(at::IntArrayRef shape, std::uint64_t seed) {
  return at::rand(shape, GeneratorFor(seed), at::TensorOptions(at::kFloat));
}

at::Tensor Integers(std::int64_t low, std::int64_t high, std::int64_t count, std::uint64_t seed) {
  return at::randint(low, high, {count}, GeneratorFor(seed), at::TensorOptions(at::kLong));
}

}  // namespace sgmd
