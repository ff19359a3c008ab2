// The blocks of a frozen Wan transformer in the host's memory, two of which at a time are on the device: while one
// computes, the next is copied.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/models/wan_block.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// Movable. Not for use by several threads at once.
class OffloadedBlocks {
 public:
  /// Without values: Set gives them. Parameters are kept in `storage`, but for float32 islands (IsFloat32Island), which
  /// are float32 unless storage is float64. Of a GPU the host's memory is pinned, which the GPU reads by itself.
  OffloadedBlocks(const WanConfig& config, at::Device device, at::ScalarType storage);

  /// The value of a parameter, by its original name ("blocks.3.ffn.0.weight", wan_facts §1.2): on the CPU, of the
  /// parameter's shape and any floating dtype.
  void Set(const std::string& name, const at::Tensor& value);

  /// Block `number` on the device, for operations that the calling thread gives to the device's current stream before
  /// the next call. Starts the copy of the block after it, or after the last of block 0, for the next pass: in order
  /// no block is waited for but the very first. Without gradients: what a graph would keep is overwritten.
  const WanBlock& Use(std::int64_t number);

  /// Bytes of a block: what each of the two places on the device takes, and the host for each block.
  std::int64_t block_bytes() const { return bytes_; }

 private:
  // Where a parameter of a block lies in the block's bytes.
  struct Part {
    std::vector<std::int64_t> shape;
    at::ScalarType type = at::kFloat;
    std::int64_t offset = 0, bytes = 0;
  };
  // One of the two places on the device.
  struct Slot {
    at::Tensor bytes;  // uint8 [block_bytes]
    WanBlock block;    // views of them
    std::int64_t number = -1;
    std::optional<c10::Event> arrived;
  };

  void Fetch(Slot& slot, std::int64_t number);

  std::int64_t layers_, bytes_ = 0;
  at::Device device_;
  std::map<std::string, Part> parts_;            // by the name in a block, "ffn.0.weight"
  std::vector<std::vector<at::Tensor>> blocks_;  // the bytes of each in pieces, on the host
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;                // the slot of the next block
  std::optional<c10::Stream> copies_;   // of a GPU; on the CPU all is done at once
  std::optional<c10::Event> computed_;  // all operations given to the device before a copy
};

}  // namespace sgmd
