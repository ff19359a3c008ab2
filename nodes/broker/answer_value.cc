#include "nodes/broker/answer_value.h"

#include <cstring>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::uint32_t kMagic = 0x43534753;
constexpr std::uint8_t kVersion = 1;
struct Header {
  std::uint32_t magic;
  std::uint8_t version, dtype, rank, zero;
  std::uint64_t checksum;
};
static_assert(sizeof(Header) == 16);

bool SizeFits(const TensorView& view) {
  try {
    return CheckedByteSize(view.dtype, view.shape) == view.bytes.size();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::string EncodeAnswer(const TensorFrame& answer) {
  const TensorView& view = answer.view;
  const Header header{kMagic,
                      kVersion,
                      static_cast<std::uint8_t>(view.dtype),
                      static_cast<std::uint8_t>(view.shape.size()),
                      0,
                      answer.ChecksumOnce()};
  std::string value;
  value.reserve(sizeof header + 8 * view.shape.size() + view.bytes.size());
  value.append(reinterpret_cast<const char*>(&header), sizeof header);
  value.append(reinterpret_cast<const char*>(view.shape.data()), 8 * view.shape.size());
  value.append(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
  return value;
}

std::optional<TensorFrame> DecodeAnswer(std::shared_ptr<const std::string> value) {
  Header header{};
  if (value->size() < sizeof header) return {};
  std::memcpy(&header, value->data(), sizeof header);
  const std::size_t shape_bytes = 8 * std::size_t{header.rank};
  if (header.magic != kMagic || header.version != kVersion || header.dtype >= kDTypeCount || header.zero != 0 ||
      value->size() < sizeof header + shape_bytes) {
    return {};
  }
  TensorFrame frame;
  frame.view = {"", static_cast<DType>(header.dtype), std::vector<std::int64_t>(header.rank), {}};
  if (header.rank > 0) std::memcpy(frame.view.shape.data(), value->data() + sizeof header, shape_bytes);
  frame.view.bytes = std::as_bytes(std::span(*value)).subspan(sizeof header + shape_bytes);
  if (!SizeFits(frame.view) || Checksum(frame.view.bytes) != header.checksum || !AllFinite(frame.view)) return {};
  frame.owner = std::move(value);
  frame.checksum = header.checksum;
  return frame;
}

}  // namespace sgmd
