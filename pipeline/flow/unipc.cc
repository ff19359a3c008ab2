#include "pipeline/flow/unipc.h"

#include <ATen/ATen.h>

#include <cmath>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

double Lambda(double sigma) { return std::log1p(-sigma) - std::log(sigma); }  // -inf at 1, +inf at 0

// phi = B = expm1(-h) over one interval of sigma.
double Phi(double from, double to) { return std::expm1(Lambda(from) - Lambda(to)); }

// What all four formulas share: the exact solution for a constant estimate of x0.
at::Tensor ConstantEstimate(const at::Tensor& x, const at::Tensor& clean, double from, double to) {
  return to / from * x - (1 - to) * Phi(from, to) * clean;
}

}  // namespace

TimeGrid TimeGridFromName(std::string_view name) {
  if (name == "wan") return TimeGrid::kWan;
  if (name == "diffusers") return TimeGrid::kDiffusers;
  throw Error(StrCat("unknown time grid \"", name, "\""), "", "\"wan\" or \"diffusers\"");
}

StepGrid UniPcGrid(TimeGrid convention, std::int64_t steps, double shift) {
  const double start = convention == TimeGrid::kWan ? 0.999 : 1.0;
  const double stop = convention == TimeGrid::kWan ? 0.0 : 0.001;
  const double interval = (stop - start) / static_cast<double>(steps);
  StepGrid grid;
  for (std::int64_t i = 0; i < steps; ++i) {
    double sigma = Shift(start + static_cast<double>(i) * interval, shift);
    if (std::abs(sigma - 1) < 1e-6) sigma -= 1e-6;
    grid.timesteps.push_back(std::trunc(sigma * 1000));
    grid.sigmas.push_back(static_cast<double>(static_cast<float>(sigma)));
  }
  grid.sigmas.push_back(0);
  return grid;
}

StepGrid ExactGrid(std::vector<double> sigmas) {
  StepGrid grid;
  for (std::size_t i = 0; i + 1 < sigmas.size(); ++i) grid.timesteps.push_back(1000 * sigmas[i]);
  grid.sigmas = std::move(sigmas);
  return grid;
}

UniPc::UniPc(std::vector<double> sigmas, Options options) : sigmas_(std::move(sigmas)), options_(std::move(options)) {
  if (options_.order != 1 && options_.order != 2) throw Error(StrCat("UniPC has order 1 or 2, not ", options_.order));
  if (sigmas_.size() < 2 || sigmas_.front() > 1 || sigmas_.back() != 0)
    throw Error("sigmas must fall from at most 1 to 0");
  for (std::size_t i = 1; i < sigmas_.size(); ++i) {
    if (!(sigmas_[i] < sigmas_[i - 1])) throw Error(StrCat("sigma ", i, " is not below the one before it"));
  }
}

double UniPc::Ratio(std::size_t from, std::size_t to) const {
  const double start = Lambda(sigmas_[from]);
  return (Lambda(sigmas_[from - 1]) - start) / (Lambda(sigmas_[to]) - start);
}

at::Tensor UniPc::Correct(const at::Tensor& clean) const {
  const std::size_t to = static_cast<std::size_t>(step_), from = to - 1;
  const double phi = Phi(sigmas_[from], sigmas_[to]), weight = (1 - sigmas_[to]) * phi;
  at::Tensor x = ConstantEstimate(sample_, clean_, sigmas_[from], sigmas_[to]);
  if (last_order_ == 1) return x - weight * 0.5 * (clean - clean_);
  // [[1, 1], [r, 1]] rho = [g1 / B, 2 g2 / B]
  const double r = Ratio(from, to), h = Lambda(sigmas_[to]) - Lambda(sigmas_[from]);
  const double g1 = -phi / h - 1, g2 = -g1 / h - 0.5;
  const double rho1 = (g1 - 2 * g2) / phi / (1 - r), rho2 = g1 / phi - rho1;
  return x - weight * (rho1 / r * (past_ - clean_) + rho2 * (clean - clean_));
}

at::Tensor UniPc::Predict(const at::Tensor& x, int order) const {
  const std::size_t from = static_cast<std::size_t>(step_), to = from + 1;
  if (sigmas_[to] == 0) return clean_;
  const at::Tensor next = ConstantEstimate(x, clean_, sigmas_[from], sigmas_[to]);
  if (order == 1) return next;
  const double weight = (1 - sigmas_[to]) * Phi(sigmas_[from], sigmas_[to]);
  return next - weight * 0.5 / Ratio(from, to) * (past_ - clean_);
}

at::Tensor UniPc::Step(const at::Tensor& x, const at::Tensor& velocity) {
  if (step_ >= steps()) throw Error(StrCat("all ", steps(), " steps of the grid are done"));
  const at::Tensor clean = x - sigmas_[step_] * velocity;
  at::Tensor corrected = x;
  if (step_ > 0 && !options_.uncorrected.contains(step_ - 1)) corrected = Correct(clean);
  past_ = clean_;
  clean_ = clean;
  // Two estimates are needed for order 2, and the last step, to sigma 0, is of order 1.
  last_order_ = past_.defined() && step_ + 1 < steps() ? options_.order : 1;
  const at::Tensor next = Predict(corrected, last_order_);
  sample_ = corrected;
  ++step_;
  return next;
}

}  // namespace sgmd
