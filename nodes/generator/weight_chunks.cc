#include "nodes/generator/weight_chunks.h"

#include <ATen/ATen.h>

#include "nodes/ring/frames.h"

namespace sgmd {
namespace {

TensorFrame CopyToFrame(const std::string& name, const at::Tensor& tensor) {
  const auto options = at::TensorOptions().device(at::kCPU).dtype(at::kFloat);
  TensorFrame frame =
      ToFrame(tensor.detach().to(options, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous));
  frame.view.name = name;
  return frame;
}

}  // namespace

std::vector<message::StudentWeights> ChunksOf(std::int64_t step, const NamedTensors& trained,
                                              const ChunkLimits& limits) {
  std::vector<message::StudentWeights> chunks(1);
  std::int64_t bytes = 0;  // of the last chunk
  for (const auto& [name, tensor] : trained) {
    const std::int64_t more = 4 * tensor.numel();
    const std::size_t count = chunks.back().tensors.size();
    if (count > 0 && (count == limits.tensors || bytes + more > limits.bytes)) {
      chunks.emplace_back();
      bytes = 0;
    }
    chunks.back().tensors.push_back(CopyToFrame(name, tensor));
    bytes += more;
  }
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    chunks[i].step = step;
    chunks[i].chunk = static_cast<std::int32_t>(i);
    chunks[i].chunks = static_cast<std::int64_t>(chunks.size());
  }
  return chunks;
}

}  // namespace sgmd
