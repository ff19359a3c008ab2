#include "pipeline/models/offloaded_blocks.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "common/error/error.h"
#include "pipeline/models/wan_forward.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

// As LibTorch aligns tensors of a GPU, so that the same kernels are chosen for a view as for a tensor by itself.
constexpr std::int64_t kAlignment = 512;
// LibTorch's allocator of pinned memory rounds each piece up to a power of two: so little is lost, and copies of this
// size take the whole speed of the bus.
constexpr std::int64_t kPiece = 32 << 20;

c10::Stream CurrentStream(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }

std::vector<at::Tensor> HostPieces(std::int64_t bytes, bool pinned) {
  std::vector<at::Tensor> pieces;
  for (std::int64_t first = 0; first < bytes; first += kPiece)
    pieces.push_back(at::empty({std::min(kPiece, bytes - first)}, at::TensorOptions(at::kByte).pinned_memory(pinned)));
  return pieces;
}

}  // namespace

OffloadedBlocks::OffloadedBlocks(const WanConfig& config, at::Device device, at::ScalarType storage)
    : layers_(config.num_layers), device_(device) {
  const std::size_t prefix = BlockPrefix(0).size();
  BlockFrom(config, 0, [&](const std::string& name, at::IntArrayRef shape) {
    const bool island = storage != at::kDouble && IsFloat32Island(name);
    Part part{shape.vec(), island ? at::kFloat : storage, bytes_, 0};
    part.bytes = c10::multiply_integers(shape) * static_cast<std::int64_t>(c10::elementSize(part.type));
    bytes_ += (part.bytes + kAlignment - 1) / kAlignment * kAlignment;
    parts_.emplace(name.substr(prefix), std::move(part));
    return at::Tensor();
  });
  for (std::int64_t n = 0; n < layers_; ++n) blocks_.push_back(HostPieces(bytes_, !device.is_cpu()));
  for (Slot& slot : slots_) {
    slot.bytes = at::empty({bytes_}, at::TensorOptions(at::kByte).device(device));
    slot.block = BlockFrom(config, 0, [&](const std::string& name, at::IntArrayRef) {
      const Part& part = parts_.at(name.substr(prefix));
      return slot.bytes.narrow(0, part.offset, part.bytes).view(part.type).view(part.shape);
    });
  }
  if (device.is_cpu()) return;
  copies_ = c10::impl::VirtualGuardImpl(device.type()).getNewStream(device);
  computed_.emplace(device.type());
  for (Slot& slot : slots_) {
    slot.arrived.emplace(device.type());
    // The memory is given to no one else before the last copy into it is done.
    c10::getDeviceAllocator(device.type())->recordStream(slot.bytes.storage().data_ptr(), *copies_);
  }
}

void OffloadedBlocks::Set(const std::string& name, const at::Tensor& value) {
  const std::size_t start = std::string_view("blocks.").size(), dot = name.find('.', start);
  TORCH_CHECK(name.starts_with("blocks.") && dot != name.npos, name, " is of no block");
  const std::vector<at::Tensor>& pieces = blocks_.at(std::stoul(name.substr(start, dot - start)));
  const Part& part = parts_.at(name.substr(dot + 1));
  TORCH_CHECK(value.sizes() == at::IntArrayRef(part.shape), "the shape of ", name, " is ", value.sizes());
  const at::Tensor bytes = value.to(part.type).contiguous().view({-1}).view(at::kByte);
  for (std::int64_t done = 0; done < part.bytes;) {
    const std::int64_t at = part.offset + done, within = at % kPiece;
    const std::int64_t count = std::min(part.bytes - done, kPiece - within);
    pieces[static_cast<std::size_t>(at / kPiece)].narrow(0, within, count).copy_(bytes.narrow(0, done, count));
    done += count;
  }
}

const WanBlock& OffloadedBlocks::Use(std::int64_t number) {
  Slot &slot = slots_[next_], &other = slots_[1 - next_];
  next_ = 1 - next_;
  if (slot.number != number) Fetch(slot, number);  // of the first pass, or after one that did not come to its end
  if (copies_) slot.arrived->block(CurrentStream(device_));
  Fetch(other, (number + 1) % layers_);
  return slot.block;
}

// Whatever reads the slot has been given to the device before.
void OffloadedBlocks::Fetch(Slot& slot, std::int64_t number) {
  slot.number = -1;
  const auto copy = [&] {
    std::int64_t first = 0;
    for (const at::Tensor& piece : blocks_[static_cast<std::size_t>(number)]) {
      slot.bytes.narrow(0, first, piece.numel()).copy_(piece, /*non_blocking=*/true);
      first += piece.numel();
    }
  };
  if (copies_) {
    computed_->record(CurrentStream(device_));
    computed_->block(*copies_);
    const c10::StreamGuard guard(*copies_);
    copy();
    slot.arrived->record(*copies_);
  } else {
    copy();
  }
  slot.number = number;
}

}  // namespace sgmd
