// AdamW and the moving average of what it updates, in one pass over memory.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/config/experiment.h"

namespace sgmd {

/// Float32, of one shape and contiguous. Without `first` beta1 is 0 and the first moment the gradient; without
/// `average` none is kept.
struct AdamWTensors {
  at::Tensor parameter, gradient, second, first, average;
};

/// The numbers of an update (Loshchilov & Hutter, arXiv:1711.05101), those of the step worked out.
struct AdamWNumbers {
  double clip = 1;  // factor of the gradient
  double beta1 = 0, beta2 = 0.999;
  double correction2 = 1;  // 1 - beta2^t
  double epsilon = 1e-8;
  double keep = 1;            // 1 - learning rate * weight decay
  double step_size = 0;       // learning rate / (1 - beta1^t)
  double average_weight = 0;  // 1 - the average's decay
};

/// Whether AdamWStep has a kernel for tensors like these. `kernels` kReference: it has not.
bool HasAdamWKernel(Kernels kernels, const AdamWTensors& tensors);

/// second = beta2 second + (1 - beta2) g^2 with g = clip gradient; first likewise with beta1 and g;
/// parameter = keep parameter - step_size first / (sqrt(second / correction2) + epsilon);
/// average += average_weight (parameter - average). In place, but for the gradient. It is the operator "sgmd::adamw_",
/// which other libraries can implement for other devices. The same bits for any number of threads and with any
/// instruction set. Throws Error where HasAdamWKernel would not be true.
void AdamWStep(const AdamWTensors& tensors, const AdamWNumbers& numbers);

}  // namespace sgmd
