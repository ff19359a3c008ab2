// Whether a student goes the way of distillations that collapse, in words.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nodes/evaluator/measures.h"

namespace sgmd {

/// Looks at the PreviewMeasures of one checkpoint after another. What is certain by its interval is said when it
/// begins, and not again while it lasts (their names are kCollapseSigns of the topology):
///
///   static     motion.high < kStatic
///   falling    motion.high < kFalling times the highest motion.value of the checkpoints before; not where it is static
///   colourful  colour.low > kColourful
class CollapseWatch {
 public:
  static constexpr double kStatic = 0.25, kFalling = 0.6, kColourful = 1.3;
  struct Sign {
    const char* name = "";  // of kCollapseSigns
    std::string sentence;
  };

  /// What begins with the checkpoint of `step`; mostly nothing. Throws Error without motion and colour.
  std::vector<Sign> OnMeasures(std::int64_t step, const Measures& measures);

 private:
  double highest_ = 0;
  std::int64_t highest_step_ = 0;
  bool static_ = false, falling_ = false, colourful_ = false;
};

}  // namespace sgmd
