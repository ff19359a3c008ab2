#include "pipeline/training/role_model.h"

#include <ATen/ATen.h>

namespace sgmd {

WanPrecision PrecisionOf(const Experiment& experiment, bool frozen) {
  const Kernels kernels = experiment.precision.kernels;
  if (experiment.precision.compute == Compute::kFloat32) return {at::kFloat, at::kFloat, kernels};
  return {frozen ? at::kBFloat16 : at::kFloat, at::kBFloat16, kernels};
}

void CountTrainingBackward(const TrainedModel& model, std::int64_t samples, Work& work) {
  (model.adapted() ? work.backward_input : work.backward_full) += samples;
  if (model.recomputes()) work.recomputed += samples;
}

}  // namespace sgmd
