// Which sgmd this is.
#pragma once

namespace sgmd {

/// The project's version as CMake has it, such as "0.1.0": what `--version` of every program prints.
const char* Version();

}  // namespace sgmd
