// A message between processes and its encoding: one FlatBuffers header frame, one raw frame per tensor
// (schemas/wire.fbs).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "common/storage/tensor_view.h"
#include "schemas/wire_generated.h"

namespace sgmd {

/// A tensor that travels: a view plus whatever keeps its bytes alive (a torch tensor, a received frame). Copying a
/// TensorFrame copies no tensor bytes.
struct TensorFrame {
  TensorView view;
  std::shared_ptr<const void> owner;
  /// XXH3-64 of view.bytes where somebody has verified it: what is passed on is not hashed again, and a byte that
  /// changes in between is found by the next receiver. Whoever sets other bytes leaves it empty.
  std::optional<std::uint64_t> checksum{};

  std::uint64_t ChecksumOnce() const { return checksum ? *checksum : Checksum(view.bytes); }
};

/// The fields of wire::Header, owned. What they hold for each kind is common/messages' to know.
struct Envelope {
  wire::Kind kind = wire::Kind::Hello;
  std::string node;
  Digest run_id;
  std::uint64_t epoch = 0;
  std::uint64_t request_id = 0;
  std::uint32_t attempt = 0;
  std::int64_t step = 0;
  std::int32_t index = 0;
  Digest digest;
  std::string subject, text;
  std::uint64_t process = 0;
  std::int64_t progress = 0;
  std::map<std::string, std::int64_t> numbers;
  std::map<std::string, double> scalars;
  std::uint64_t number = 0, received = 0;  // the link's (common/transport/link.h)
  std::vector<TensorFrame> tensors;

  /// Null when absent.
  const TensorFrame* Find(std::string_view name) const;
  /// Throws Error naming kind and tensor when absent.
  const TensorFrame& At(std::string_view name) const;
};

/// A received frame: bytes and what keeps them alive.
struct Frame {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

/// Limits that a received message must keep; a message outside them is an Error, never a crash.
struct EnvelopeLimits {
  std::size_t max_header_bytes = 1 << 20;
  std::size_t max_tensors = 64;
  std::size_t max_rank = 8;
  std::size_t max_frame_bytes = std::size_t{1} << 32;
};

/// The header frame of `envelope`, with a checksum of every tensor, computed where it does not carry one, and one of
/// the header itself.
std::vector<std::byte> EncodeHeader(const Envelope& envelope);

/// Verifies, in this order, sizes, the header's checksum, the flatbuffer (depth, tables, identifier), the number of
/// frames, and for each tensor its shape with checked products against its frame's size, then its checksum. The tensors
/// of the result share the frames' bytes and carry their checksums. Throws Error saying which check failed.
Envelope DecodeEnvelope(std::span<const std::byte> header, std::vector<Frame> tensor_frames,
                        const EnvelopeLimits& limits = {});

}  // namespace sgmd
