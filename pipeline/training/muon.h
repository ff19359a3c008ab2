// Muon: momentum whose direction is made orthogonal (Jordan et al. 2024). For the matrices inside transformer blocks of
// a model trained from scratch: on the embedded teacher it comes further than AdamW in the same time.
#pragma once

#include <vector>

#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

struct MuonConfig {
  double learning_rate =
      0.02;  // > 0, of a matrix with no more rows than columns; taller ones take sqrt(rows / columns) of it
  double momentum = 0.95;      // [0, 1), Nesterov
  double weight_decay = 0.01;  // >= 0, decoupled
};

class Muon {
 public:
  /// `matrices`: two-dimensional, sharing storage with the model; not embeddings and not the head, which AdamW takes.
  Muon(NamedTensors matrices, const MuonConfig& config);

  /// One update from the matrices' .grad() (undefined counts as zero) at `scale` times the learning rate. Clears the
  /// gradients. Their size does not matter, only their direction does.
  void Step(double scale = 1.0);

  /// "<parameter>.momentum", float32.
  NamedTensors State() const;
  /// Throws Error when the file's tensors do not fit State().
  void LoadState(const SafetensorsFile& file);

 private:
  MuonConfig config_;
  NamedTensors matrices_;
  std::vector<at::Tensor> momentum_;
  std::vector<std::vector<std::size_t>> groups_;  // indices of matrices of one shape: made orthogonal in one batch
};

/// The orthogonal factor of each of `matrices` [K, R, C], approximately, by five Newton-Schulz iterations of degree
/// five: singular values above 2 % of the matrix's norm come out between 0.6 and 1.3, smaller ones below.
at::Tensor Orthogonalise(const at::Tensor& matrices);

}  // namespace sgmd
