#include "nodes/fake_score/student_weights.h"

#include <algorithm>
#include <iterator>

#include "common/error/error.h"
#include "nodes/ring/frames.h"

namespace sgmd {

void ArrivedWeights::Add(const message::StudentWeights& chunk) {
  if (chunk.step <= taken_) return;
  Step& step = steps_[chunk.step];
  if (step.chunks == 0) step.chunks = chunk.chunks;
  if (chunk.chunks != step.chunks || chunk.chunk < 0 || chunk.chunk >= chunk.chunks) {
    throw Error(StrCat("the student's weights of step ", chunk.step, " have ", step.chunks, " chunks, and chunk ",
                       chunk.chunk, " of ", chunk.chunks, " came"));
  }
  const auto [it, is_new] = step.there.try_emplace(chunk.chunk);
  if (!is_new) return;
  for (const TensorFrame& frame : chunk.tensors) it->second.emplace_back(frame.view.name, ToTensor(frame));
}

bool ArrivedWeights::Complete(std::int64_t step) const {
  const auto it = steps_.find(step);
  return it != steps_.end() && static_cast<std::int64_t>(it->second.there.size()) == it->second.chunks;
}

NamedTensors ArrivedWeights::Take(std::int64_t step) {
  if (!Complete(step)) throw Error(StrCat("the student's weights of step ", step, " are not complete"));
  NamedTensors tensors;
  for (auto& [number, chunk] : steps_.at(step).there) std::ranges::move(chunk, std::back_inserter(tensors));
  steps_.erase(steps_.begin(), steps_.upper_bound(step));
  taken_ = step;
  return tensors;
}

}  // namespace sgmd
