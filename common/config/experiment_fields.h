// The table of an experiment file's keys.
#pragma once

#include "common/config/experiment.h"
#include "common/config/fields.h"

namespace sgmd {

void VisitFields(FieldVisitor& visitor, Experiment& experiment);

}  // namespace sgmd
