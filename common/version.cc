#include "common/version.h"

namespace sgmd {

const char* Version() { return SGMD_VERSION; }

}  // namespace sgmd
