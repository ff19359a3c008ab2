#include "nodes/ring/frames.h"

#include "pipeline/data/prompt_bank.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

TensorFrame ToFrame(const at::Tensor& tensor) { return {ViewOf("", tensor), std::make_shared<at::Tensor>(tensor)}; }

at::Tensor ToTensor(const TensorFrame& frame) { return CopyToTensor(frame.view); }

TensorFrame PromptsToFrame(const std::vector<Digest>& prompts) { return ToFrame(PromptsToTensor(prompts)); }

std::vector<Digest> PromptsFromFrame(const TensorFrame& frame) { return PromptsFromTensor(ToTensor(frame)); }

}  // namespace sgmd
