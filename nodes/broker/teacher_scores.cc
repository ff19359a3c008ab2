#include "nodes/broker/teacher_scores.h"

#include "common/error/error.h"

namespace sgmd {

std::string ScorerFingerprint::Text() const {
  return StrCat("teacher ", teacher.Hex(), ", guidance ", guidance, compute == "float32" ? "" : ", in " + compute);
}

Digest ScoreKey(const ScorerFingerprint& scorer, const Envelope& sample) {
  Hasher hasher;
  hasher.Text("velocity").Integer(scorer.teacher.hi).Integer(scorer.teacher.lo).Real(scorer.guidance);
  if (scorer.compute != "float32") hasher.Text(scorer.compute);
  for (const char* name : {"sigma", "prompts", "x_s"}) {
    const TensorView& view = sample.At(name).view;
    hasher.Text(Name(view.dtype)).Bytes(std::as_bytes(std::span(view.shape))).Bytes(view.bytes);
  }
  return hasher.Finish();
}

}  // namespace sgmd
