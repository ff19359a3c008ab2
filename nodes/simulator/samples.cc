#include "nodes/simulator/samples.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace sgmd {
namespace {

constexpr std::size_t kBegins = std::size_t{1} << 16;  // where a slice may begin

}  // namespace

SampleSource::SampleSource(std::int64_t sample_bytes, std::int64_t seed) : floats_(sample_bytes / 4) {
  std::minstd_rand draw(static_cast<std::uint32_t>(seed % std::minstd_rand::modulus));
  std::vector<float> buffer(kBegins + static_cast<std::size_t>(floats_));
  std::ranges::generate(buffer, [&] { return static_cast<float>(draw()) / static_cast<float>(draw.max()) - 0.5F; });
  buffer_ = std::make_shared<const std::vector<float>>(std::move(buffer));
}

TensorFrame SampleSource::Slice(std::size_t begin) const {
  const std::span<const float> all(*buffer_);
  const auto slice = all.subspan(begin % kBegins, static_cast<std::size_t>(floats_));
  return {{"", DType::kF32, {1, 1, 1, 1, floats_}, std::as_bytes(slice)}, buffer_};
}

message::Sample SampleSource::Of(const message::Ticket& ticket) const {
  struct Prompts {
    std::int64_t step, index;
  };
  static_assert(sizeof(Prompts) == 16);
  const auto prompts = std::make_shared<const Prompts>(Prompts{ticket.step, ticket.index});
  const std::size_t place = static_cast<std::size_t>(ticket.step) * 7919 + static_cast<std::size_t>(ticket.index);
  static const auto sigma = std::make_shared<const float>(0.5F);
  return {ticket,
          ticket.step,
          Slice(place),
          Slice(place + kBegins / 2),
          {{"", DType::kF32, {1}, std::as_bytes(std::span(sigma.get(), 1))}, sigma},
          {{"", DType::kU8, {1, 16}, std::as_bytes(std::span(prompts.get(), 1))}, prompts}};
}

bool SameBytes(const TensorFrame& a, const TensorFrame& b) {
  const auto x = a.view.bytes, y = b.view.bytes;
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size()) == 0;
}

void Ledger::Expect(const message::Ticket& ticket) {
  open_[ticket.step].insert(ticket.index);
  ++expected_;
}

void Ledger::Came(const message::Ticket& ticket, bool right) {
  if (!right) ++wrong_;
  const auto step = open_.find(ticket.step);
  if (step == open_.end() || step->second.erase(ticket.index) == 0) {
    ++doubled_;
    return;
  }
  if (step->second.empty()) open_.erase(step);
  ++came_;
}

std::int64_t Ledger::OpenOf(std::int64_t step) const {
  const auto it = open_.find(step);
  return it == open_.end() ? 0 : static_cast<std::int64_t>(it->second.size());
}

}  // namespace sgmd
