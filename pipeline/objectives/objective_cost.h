// What an objective costs. No LibTorch: plans ask too.
#pragma once

#include "common/config/experiment.h"

namespace sgmd {

/// Whether the objective backpropagates through the fake score's input (all but dmd2).
bool DifferentiatesFakeScore(Objective objective);

}  // namespace sgmd
