#include "nodes/evaluator/collapse_watch.h"

#include <utility>

#include "common/error/error.h"

namespace sgmd {

std::vector<CollapseWatch::Sign> CollapseWatch::OnMeasures(std::int64_t step, const Measures& measures) {
  const Estimate &motion = measures.At("motion"), &colour = measures.At("colour");
  const bool is_static = motion.high < kStatic;
  const bool falling = !is_static && motion.high < kFalling * highest_;
  const bool colourful = colour.low > kColourful;
  std::vector<Sign> signs;
  if (is_static && !std::exchange(static_, true)) {
    signs.push_back(
        {"static", StrCat("the student's videos are nearly static at step ", step, ": they move ", Text(motion),
                          " times as much as the teacher's; a lower learning rate of the generator, more updates "
                          "of the fake score or the diversity loss may help")});
  }
  if (falling && !std::exchange(falling_, true)) {
    signs.push_back(
        {"falling", StrCat("the student's motion falls: ", Text(motion), " of the teacher's at step ", step,
                           ", where it was ", Text({highest_, highest_, highest_}), " at step ", highest_step_)});
  }
  if (colourful && !std::exchange(colourful_, true)) {
    signs.push_back({"colourful", StrCat("the student's colours are too strong at step ", step, ": ", Text(colour),
                                         " times the teacher's saturation; a lower [model] guidance may help")});
  }
  static_ = is_static;
  falling_ = falling;
  colourful_ = colourful;
  if (motion.value > highest_) {
    highest_ = motion.value;
    highest_step_ = step;
  }
  return signs;
}

}  // namespace sgmd
