#include "nodes/evaluator/preview_measures.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"
#include "pipeline/evaluation/optical_flow.h"

namespace sgmd {
namespace {

constexpr std::int64_t kFlowSide = 240;  // px
constexpr double kLeast = 1e-6;          // of what is divided by

double Mean(const std::vector<double>& values, const at::Tensor& members) {
  double sum = 0;
  for (std::int64_t i = 0; i < members.size(0); ++i)
    sum += values[static_cast<std::size_t>(members[i].item<int64_t>())];
  return sum / static_cast<double>(members.size(0));
}

std::vector<double> Dynamic(const PreviewRecords& records) {
  std::vector<double> dynamic;
  for (std::size_t i = 0; i < records.flow.size(); ++i)
    dynamic.push_back(records.flow[i] > kDynamicShare * records.short_side[i] ? 1 : 0);
  return dynamic;
}

}  // namespace

void Observe(const at::Tensor& pixels, PreviewRecords& records) {
  const std::int64_t side = std::min(pixels.size(3), pixels.size(4)),
                     factor = std::max<std::int64_t>(1, side / kFlowSide);
  const at::Tensor reduced = factor > 1 ? at::avg_pool3d(pixels, {1, factor, factor}) : pixels;
  const FlowSummary flow = OpticalFlow(reduced.contiguous(), 1);
  records.flow.push_back(flow.magnitude.item<double>() * static_cast<double>(factor));
  records.consistency.push_back(flow.consistency.item<double>());
  records.saturation.push_back((pixels.amax(1) - pixels.amin(1)).mean().item<double>() / 2);
  records.short_side.push_back(static_cast<double>(side));
}

Measures PreviewMeasures(const PreviewRecords& student, const PreviewRecords& teacher, std::uint64_t seed) {
  const std::size_t videos = student.flow.size();
  if (videos == 0 || teacher.flow.size() != videos)
    throw Error(StrCat(videos, " videos of the student beside ", teacher.flow.size(), " of the teacher"));
  const std::vector<double> dynamic = Dynamic(student);
  const auto figures = [&](const std::vector<at::Tensor>& members) {
    const at::Tensor& of = members.front();
    const double flow = Mean(student.flow, of), saturation = Mean(student.saturation, of);
    return std::vector<double>{flow,
                               Mean(dynamic, of),
                               Mean(student.consistency, of),
                               saturation,
                               flow / std::max(Mean(teacher.flow, of), kLeast),
                               saturation / std::max(Mean(teacher.saturation, of), kLeast)};
  };
  return {{"flow", "dynamic_degree", "consistency", "saturation", "motion", "colour"},
          Bootstrap({{static_cast<std::int64_t>(videos), 1}}, figures, seed)};
}

}  // namespace sgmd
