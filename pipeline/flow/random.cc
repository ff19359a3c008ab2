#include "pipeline/flow/random.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "common/digest/digest.h"
#include "common/error/error.h"
#include "pipeline/flow/philox.h"

namespace sgmd {
namespace {

enum Kind : std::uint32_t { kUniform = 0, kNormal = 1, kInteger = 2 };

PhiloxBlock BlockOf(std::uint64_t seed, std::uint64_t block, Kind kind, std::uint32_t attempt = 0) {
  return Philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), kind, attempt},
                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

// Coefficients in powers of the square of the argument, which sum 1, 1/3, 1/5, ... or the alternating inverse
// factorials.
constexpr auto kArtanh = [] {
  std::array<double, 11> c{};
  for (int k = 0; k < 11; ++k) c[k] = 1.0 / (2 * k + 1);
  return c;
}();

constexpr std::array<double, 9> AlternatingInverseFactorials(int first) {
  std::array<double, 9> c{1.0};
  for (int k = 1, n = first; k < 9; ++k, n += 2) c[k] = -c[k - 1] / (n * (n + 1));
  return c;
}
constexpr auto kCosine = AlternatingInverseFactorials(1), kSine = AlternatingInverseFactorials(2);

template <std::size_t n>
double Polynomial(const std::array<double, n>& coefficients, double x) {
  double sum = 0;
  for (std::size_t k = n; k-- > 0;) sum = sum * x + coefficients[k];
  return sum;
}

// ln((word + 1) / 2^32): of m 2^e with m in [1 / sqrt 2, sqrt 2] it is e ln 2 + 2 artanh((m - 1) / (m + 1)), whose
// series leaves out less than 2^-55.
double LogOfUnit(std::uint32_t word) {
  int exponent = 0;
  double m = std::frexp(static_cast<double>(word) + 1.0, &exponent);  // exact, in [1/2, 1)
  if (m < std::numbers::sqrt2 / 2) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1);
  return 2 * s * Polynomial(kArtanh, s * s) + (exponent - 32) * std::numbers::ln2;
}

struct Direction {
  double cosine, sine;
};

// Of the angle 2 pi word / 2^32: the nearest quarter turn exactly, the rest, within pi / 4, by Taylor series that leave
// out less than 2^-54.
Direction DirectionOf(std::uint32_t word) {
  const std::uint32_t quarter = (word + (1U << 29)) >> 30;  // 0 .. 3; a sum that wraps round is 0
  const auto rest = static_cast<std::int32_t>(word - (quarter << 30));
  const double t = static_cast<double>(rest) * (std::numbers::pi / 2 / (1 << 30)), q = t * t;
  const double cosine = Polynomial(kCosine, q), sine = t * Polynomial(kSine, q);
  switch (quarter) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

std::array<float, 4> Uniforms(const PhiloxBlock& w) {
  std::array<float, 4> out;
  for (int k = 0; k < 4; ++k) out[k] = static_cast<float>(w[k] >> 8) * 0x1p-24F;
  return out;
}

std::array<float, 4> Normals(const PhiloxBlock& w) {
  std::array<float, 4> out;
  for (int k = 0; k < 4; k += 2) {
    const double radius = std::sqrt(-2 * LogOfUnit(w[k]));
    const Direction direction = DirectionOf(w[k + 1]);
    out[k] = static_cast<float>(radius * direction.cosine);
    out[k + 1] = static_cast<float>(radius * direction.sine);
  }
  return out;
}

at::Tensor Fill(at::IntArrayRef shape, std::uint64_t seed, Kind kind,
                std::array<float, 4> (*numbers)(const PhiloxBlock&)) {
  at::Tensor tensor = at::empty(shape, at::TensorOptions(at::kFloat));
  auto* out = tensor.mutable_data_ptr<float>();
  const std::int64_t count = tensor.numel();
  for (std::int64_t i = 0; i < count; i += 4) {
    const std::array<float, 4> four = numbers(BlockOf(seed, static_cast<std::uint64_t>(i / 4), kind));
    std::copy_n(four.begin(), std::min<std::int64_t>(4, count - i), out + i);
  }
  return tensor;
}

// In [0, n).
std::uint64_t Below(std::uint64_t n, std::uint64_t seed, std::uint64_t i) {
  const std::uint64_t unfair = -n % n;  // 2^64 mod n
  for (std::uint32_t attempt = 0;; ++attempt) {
    const PhiloxBlock w = BlockOf(seed, i, kInteger, attempt);
    const auto product = static_cast<unsigned __int128>(w[0] | std::uint64_t{w[1]} << 32) * n;
    if (static_cast<std::uint64_t>(product) >= unfair) return static_cast<std::uint64_t>(product >> 64);
  }
}

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

at::Tensor Noise(at::IntArrayRef shape, std::uint64_t seed) { return Fill(shape, seed, kNormal, Normals); }

at::Tensor Uniform(at::IntArrayRef shape, std::uint64_t seed) { return Fill(shape, seed, kUniform, Uniforms); }

at::Tensor Integers(std::int64_t low, std::int64_t high, std::int64_t count, std::uint64_t seed) {
  if (low >= high) throw Error(StrCat("no integer is in [", low, ", ", high, ")"));
  at::Tensor tensor = at::empty({count}, at::TensorOptions(at::kLong));
  auto* out = tensor.mutable_data_ptr<std::int64_t>();
  const std::uint64_t n = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + Below(n, seed, static_cast<std::uint64_t>(i)));
  }
  return tensor;
}

std::vector<std::int64_t> Permutation(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = count - 1; i > 0; --i) {
    const auto place = static_cast<std::uint64_t>(i);
    std::swap(order[i], order[Below(place + 1, seed, place)]);
  }
  return order;
}

}  // namespace sgmd
