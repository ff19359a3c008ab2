// How long the parts of a step take.
#pragma once

#include <chrono>

#include "common/trace/trace.h"

namespace sgmd {

/// Adds the time of a scope to a sum, in seconds.
class Timed {
 public:
  Timed(double* sum, const char* name, trace::About about) : sum_(sum), span_(name, about) {}
  ~Timed() { *sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double* sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  trace::Span span_;
};

}  // namespace sgmd
