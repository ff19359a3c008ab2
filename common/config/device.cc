#include "common/config/device.h"

#include <charconv>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::string_view kCuda = "cuda";

}  // namespace

std::optional<Device> ParseDevice(std::string_view text) {
  if (text == "cpu") return Device{};
  Device device{Device::Kind::kCuda, 0};
  if (text == kCuda) return device;
  if (!text.starts_with(kCuda) || text.size() < kCuda.size() + 2 || text[kCuda.size()] != ':') return {};
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + kCuda.size() + 1, end, device.ordinal);
  if (error != std::errc() || rest != end || device.ordinal < 0) return {};
  return device;
}

const char* Spell(Device::Kind kind) { return kind == Device::Kind::kCpu ? "cpu" : kCuda.data(); }

std::string Spell(const Device& device) {
  return device.kind == Device::Kind::kCpu ? "cpu" : StrCat(kCuda, ":", device.ordinal);
}

}  // namespace sgmd
