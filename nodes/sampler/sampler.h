// A sampling run: text, noise, integration, decoding, files.
#pragma once

#include "nodes/sampler/options.h"

namespace sgmd {

/// Only one of text encoder, transformer and VAE is in memory at a time. What can be found wrong is found before
/// anything is loaded. Prints the files that were written on stdout. Throws Error.
void Sample(const SampleOptions& options);

}  // namespace sgmd
