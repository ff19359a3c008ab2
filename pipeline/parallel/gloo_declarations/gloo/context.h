// What c10d's ProcessGroupGloo.hpp names of Gloo, declared: the wheel has Gloo inside libtorch_cpu.so but not its
// headers, and those of Debian's package are older than that. Nothing declared here is derived from or constructed by
// this project.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
