// Sequence parallelism over a group of ranks: by all-to-all, as DeepSpeed-Ulysses does it (arXiv 2309.14509).
#pragma once

#include <memory>

#include "pipeline/models/token_share.h"
#include "pipeline/parallel/collectives.h"

namespace sgmd {

/// The ranks of `group`, which outlives it and all graphs, share tokens.
std::unique_ptr<TokenShare> ShareTokens(Collectives& group);

}  // namespace sgmd
