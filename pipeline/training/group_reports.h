// What the ranks of a role's group report to its rank 0.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "pipeline/parallel/orders.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// By all ranks, with the files that each has written into `folder`: at rank 0 all of them with their digests.
std::map<std::string, Digest> GatherDigests(const Orders& orders, const std::filesystem::path& folder,
                                            const std::vector<std::string>& own);

/// By all ranks: at rank 0 the sum.
Work GatherWork(const Orders& orders, const Work& own);

}  // namespace sgmd
