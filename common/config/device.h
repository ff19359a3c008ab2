// Devices as files and command lines name them: "cpu", "cuda" (which is "cuda:0"), "cuda:3".
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>

namespace sgmd {

struct Device {
  enum class Kind { kCpu, kCuda };
  Kind kind = Kind::kCpu;
  int ordinal = 0;  // of a GPU on its host; else 0
  auto operator<=>(const Device&) const = default;
};

/// Names, in the environment, a library that brings the GPUs in place of LibTorch's own
/// (pipeline/device/open_device.h).
inline constexpr const char* kCudaLibraryVariable = "SGMD_CUDA_LIBRARY";

/// What a person may write, for hints.
inline constexpr const char* kDeviceForms = "cpu, cuda or cuda:N";

/// Nothing when `text` names no device. Whether this machine has it is not asked.
std::optional<Device> ParseDevice(std::string_view text);
/// "cpu" or "cuda".
const char* Spell(Device::Kind kind);
/// "cpu" or "cuda:3".
std::string Spell(const Device& device);

}  // namespace sgmd
