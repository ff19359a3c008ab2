// The table of a topology file's keys.
#pragma once

#include "common/config/fields.h"
#include "common/config/topology.h"

namespace sgmd {

void VisitFields(FieldVisitor& visitor, Topology& topology);

}  // namespace sgmd
