// The operators of the library "sgmd" in PyTorch's dispatcher. Other libraries can implement them for other devices
// under the same names (TORCH_LIBRARY_IMPL); a boxed fallback can run them too: results are fresh tensors, no argument
// is changed but those of adamw_, and what is not asked for is an empty tensor.
//
// All tensors are contiguous. x, y, their gradients and results are float32 or bfloat16 of one dtype, everything else
// float32. Statistics have the rows' shape [B, N]. `sums` says whether gradients of parameters are asked for.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace torch {
class Library;
}

namespace sgmd::operators {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline constexpr const char* kSchemas[] = {
    "ada_norm(Tensor x, Tensor scale, Tensor shift, float eps) -> (Tensor, Tensor, Tensor)",
    "ada_norm_backward(Tensor dn, Tensor x, Tensor scale, Tensor mean, Tensor rstd, bool sums)"
    " -> (Tensor, Tensor, Tensor)",
    "add_norm(Tensor x, Tensor y, Tensor? gate, Tensor scale, Tensor shift, float eps)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    "add_norm_backward(Tensor? dsum, Tensor dn, Tensor sum, Tensor? y, Tensor? gate, Tensor scale, Tensor mean,"
    " Tensor rstd, bool sums) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    "add_gated(Tensor x, Tensor y, Tensor gate) -> Tensor",
    "add_gated_backward(Tensor dsum, Tensor? y, Tensor gate, bool sums) -> (Tensor, Tensor)",
    "rms_rotate(Tensor x, Tensor weight, Tensor? table, float eps) -> (Tensor, Tensor)",
    "rms_rotate_backward(Tensor dy, Tensor x, Tensor weight, Tensor? table, Tensor rrms, bool sums)"
    " -> (Tensor, Tensor)",
    "gelu(Tensor x) -> Tensor",
    "gelu_backward(Tensor dy, Tensor x) -> Tensor",
    "adamw_(Tensor(a!) parameter, Tensor gradient, Tensor(b!) second, Tensor(c!)? first, Tensor(d!)? average,"
    " float clip, float beta1, float beta2, float correction2, float epsilon, float keep, float step_size,"
    " float average_weight) -> ()",
};

/// Their implementations for a device: OperatorsOn<Cpu> and, in pipeline/cuda, OperatorsOn<Cuda>. See operators_on.h.
template <typename Device>
struct OperatorsOn {
  /// n, mean, rstd.
  static std::tuple<Tensor, Tensor, Tensor> AdaNorm(const Tensor& x, const Tensor& scale, const Tensor& shift,
                                                    double eps);
  /// dx, dscale, dshift.
  static std::tuple<Tensor, Tensor, Tensor> AdaNormBackward(const Tensor& dn, const Tensor& x, const Tensor& scale,
                                                            const Tensor& mean, const Tensor& rstd, bool sums);
  /// sum, n, mean, rstd. Scale and shift [B, 1, D] or [D], as in AddThenNorm.
  static std::tuple<Tensor, Tensor, Tensor, Tensor> AddNorm(const Tensor& x, const Tensor& y,
                                                            const OptionalTensor& gate, const Tensor& scale,
                                                            const Tensor& shift, double eps);
  /// dx, dy (empty without a gate: it is dx), dgate, dscale, dshift. y is there with a gate whose gradient is asked
  /// for.
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> AddNormBackward(
      const OptionalTensor& dsum, const Tensor& dn, const Tensor& sum, const OptionalTensor& y,
      const OptionalTensor& gate, const Tensor& scale, const Tensor& mean, const Tensor& rstd, bool sums);
  static Tensor AddGated(const Tensor& x, const Tensor& y, const Tensor& gate);
  /// dy, dgate.
  static std::tuple<Tensor, Tensor> AddGatedBackward(const Tensor& dsum, const OptionalTensor& y, const Tensor& gate,
                                                     bool sums);
  /// y and the reciprocal root mean squares. `table` complex64 [N, head_dim / 2].
  static std::tuple<Tensor, Tensor> RmsRotate(const Tensor& x, const Tensor& weight, const OptionalTensor& table,
                                              double eps);
  /// dx, dweight.
  static std::tuple<Tensor, Tensor> RmsRotateBackward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                      const OptionalTensor& table, const Tensor& rrms, bool sums);
  static Tensor Gelu(const Tensor& x);
  static Tensor GeluBackward(const Tensor& dy, const Tensor& x);
  /// In place but for the gradient (adamw_step.h).
  static void AdamW(const Tensor& parameter, const Tensor& gradient, const Tensor& second, const OptionalTensor& first,
                    const OptionalTensor& average, double clip, double beta1, double beta2, double correction2,
                    double epsilon, double keep, double step_size, double average_weight);

  /// All of them under their names.
  static void Register(torch::Library& library);
};

/// Rows are handed out to threads.
struct Cpu;

}  // namespace sgmd::operators
