#include "pipeline/training/muon.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace sgmd {

Muon::Muon(NamedTensors matrices, const MuonConfig& config) : config_(config), matrices_(std::move(matrices)) {
  std::map<std::vector<std::int64_t>, std::vector<std::size_t>> by_shape;
  for (std::size_t i = 0; i < matrices_.size(); ++i) {
    momentum_.push_back(at::zeros_like(matrices_[i].second));
    by_shape[matrices_[i].second.sizes().vec()].push_back(i);
  }
  for (auto& [shape, indices] : by_shape) groups_.push_back(std::move(indices));
}

void Muon::Step(double scale) {
  c10::NoGradGuard no_grad;
  for (const auto& group : groups_) {
    std::vector<at::Tensor> directions;
    for (const std::size_t i : group) {
      at::Tensor& p = matrices_[i].second;
      const at::Tensor gradient = p.grad().defined() ? p.grad() : at::zeros_like(p);
      momentum_[i].lerp_(gradient, 1 - config_.momentum);
      directions.push_back(gradient.lerp(momentum_[i], config_.momentum));
      p.mutable_grad() = at::Tensor();
    }
    const at::Tensor orthogonal = Orthogonalise(at::stack(directions));
    const double rows = static_cast<double>(orthogonal.size(1)), columns = static_cast<double>(orthogonal.size(2));
    const double rate = config_.learning_rate * scale;
    for (std::size_t k = 0; k < group.size(); ++k) {
      at::Tensor& p = matrices_[group[k]].second;
      p.mul_(1 - rate * config_.weight_decay);
      p.add_(orthogonal[static_cast<std::int64_t>(k)], -rate * std::sqrt(std::max(1.0, rows / columns)));
    }
  }
}

NamedTensors Muon::State() const {
  NamedTensors state;
  for (std::size_t i = 0; i < matrices_.size(); ++i) state.emplace_back(matrices_[i].first + ".momentum", momentum_[i]);
  return state;
}

void Muon::LoadState(const SafetensorsFile& file) { LoadTensors(file, State()); }

at::Tensor Orthogonalise(const at::Tensor& matrices) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;  // steepest at zero among quintics that stay near one
  constexpr int kIterations = 5;
  const bool tall = matrices.size(1) > matrices.size(2);  // the product x x^T should be the small one
  at::Tensor x = tall ? matrices.transpose(1, 2) : matrices;
  x = x / (x.square().sum({1, 2}, true).sqrt() + 1e-7);
  for (int i = 0; i < kIterations; ++i) {
    const at::Tensor a = at::bmm(x, x.transpose(1, 2));
    x = kA * x + at::bmm(kB * a + kC * at::bmm(a, a), x);
  }
  return tall ? x.transpose(1, 2) : x;
}

}  // namespace sgmd
