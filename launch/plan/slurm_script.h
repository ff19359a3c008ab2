// A run as a job of Slurm.
#pragma once

#include <string>
#include <vector>

#include "common/config/topology.h"

namespace sgmd {

/// An sbatch script that starts a launcher on every host of the plan, the first node of the job being the first host.
/// `up` is the command of a launcher, but for --host. The job asks for the GPUs that the fullest host uses and for
/// `time_limit` (a form that sbatch knows, such as 24:00:00); five minutes before that the run drains and checkpoints,
/// so that the same script goes on from there. Makes the folder of the job's log, which Slurm does not.
std::string SlurmScript(const LaunchPlan& plan, const std::vector<std::string>& up, const std::string& time_limit);

}  // namespace sgmd
