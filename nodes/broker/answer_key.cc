#include "nodes/broker/answer_key.h"

#include "common/error/error.h"

namespace sgmd {

std::string ScorerFingerprint::Text() const {
  return StrCat("teacher ", teacher.Hex(), ", guidance ", guidance.Text(), ", in ", compute,
                scores == "float32" ? "" : ", kept in " + scores, device == "cpu" ? "" : ", on " + device);
}

namespace {

Hasher Start(const char* what, const ScorerFingerprint& scorer) {
  Hasher hasher;
  hasher.Text(what).Integer(scorer.teacher.hi).Integer(scorer.teacher.lo).Real(scorer.guidance.high);
  if (scorer.guidance.low != scorer.guidance.high)
    hasher.Text("below").Real(scorer.guidance.boundary).Real(scorer.guidance.low);
  hasher.Text(scorer.compute);
  if (scorer.device != "cpu") hasher.Text("on").Text(scorer.device);
  return hasher;
}

Digest WithTensors(Hasher hasher, std::span<const TensorFrame> tensors) {
  for (const TensorFrame& tensor : tensors) {
    const TensorView& view = tensor.view;
    hasher.Text(Name(view.dtype)).Bytes(std::as_bytes(std::span(view.shape))).Bytes(view.bytes);
  }
  return hasher.Finish();
}

}  // namespace

Digest ScoreKey(const ScorerFingerprint& scorer, std::span<const TensorFrame> lease_tensors) {
  Hasher hasher = Start("velocity", scorer);
  if (scorer.scores != "float32") hasher.Text("kept in").Text(scorer.scores);
  return WithTensors(std::move(hasher), lease_tensors);
}

Digest AnchorKey(const ScorerFingerprint& scorer, const AnchorSettings& settings,
                 std::span<const TensorFrame> lease_tensors) {
  Hasher hasher = Start("anchor", scorer);
  hasher.Integer(static_cast<std::uint64_t>(settings.steps)).Integer(static_cast<std::uint64_t>(settings.grid));
  hasher.Real(settings.shift);
  return WithTensors(std::move(hasher), lease_tensors);
}

}  // namespace sgmd
