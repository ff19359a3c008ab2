#include "pipeline/evaluation/optical_flow.h"

#include <ATen/ATen.h>

#include <opencv2/imgproc.hpp>
#include <opencv2/video/tracking.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

// A frame [H, W] float32 contiguous as 8-bit grey, enlarged. The tensor must outlive nothing: the pixels are copied.
cv::Mat Grey(const at::Tensor& frame, std::int64_t enlarge) {
  const cv::Mat view(static_cast<int>(frame.size(0)), static_cast<int>(frame.size(1)), CV_32F,
                     const_cast<float*>(frame.const_data_ptr<float>()));
  cv::Mat grey, large;
  view.convertTo(grey, CV_8U, 127.5, 127.5);
  cv::resize(grey, large, {}, static_cast<double>(enlarge), static_cast<double>(enlarge), cv::INTER_CUBIC);
  return large;
}

double Median(const cv::Mat& grey) {
  std::vector<std::uint8_t> pixels(grey.begin<std::uint8_t>(), grey.end<std::uint8_t>());
  std::nth_element(pixels.begin(), pixels.begin() + pixels.size() / 2, pixels.end());
  return pixels[pixels.size() / 2];
}

struct PairFlow {
  double moved = 0, weight = 0, error = 0;  // sums over pixels
};

PairFlow Between(const cv::Mat& from, const cv::Mat& to, double background) {
  cv::Mat flow, map(from.size(), CV_32FC2), warped;
  cv::calcOpticalFlowFarneback(from, to, flow, 0.5, 3, 15, 3, 5, 1.1, 0);
  // Backward warp: pixel p of the next frame came from about p - flow(p).
  for (int y = 0; y < flow.rows; ++y) {
    for (int x = 0; x < flow.cols; ++x) {
      const auto& f = flow.at<cv::Vec2f>(y, x);
      map.at<cv::Vec2f>(y, x) = {static_cast<float>(x) - f[0], static_cast<float>(y) - f[1]};
    }
  }
  cv::remap(from, warped, map, {}, cv::INTER_LINEAR, cv::BORDER_REPLICATE);
  PairFlow sum;
  for (int y = 0; y < flow.rows; ++y) {
    for (int x = 0; x < flow.cols; ++x) {
      const double weight = std::abs(from.at<std::uint8_t>(y, x) - background);
      sum.weight += weight;
      sum.moved += weight * cv::norm(flow.at<cv::Vec2f>(y, x));
      sum.error += std::abs(warped.at<std::uint8_t>(y, x) - to.at<std::uint8_t>(y, x));
    }
  }
  return sum;
}

}  // namespace

FlowSummary OpticalFlow(const at::Tensor& video, std::int64_t enlarge) {
  if (video.dim() != 5 || video.size(2) < 2)
    throw Error(StrCat("videos must be [B, 3, F >= 2, H, W], got ", video.sizes()));
  cv::setNumThreads(1);  // the caller decides how many threads there are
  const at::Tensor grey =
      video.to(at::kFloat).amax(1).clamp(-1, 1).contiguous();  // [B, F, H, W]: saturated colours count in full
  FlowSummary out{at::empty({video.size(0)}), at::empty({video.size(0)})};
  for (std::int64_t b = 0; b < video.size(0); ++b) {
    PairFlow sum;
    cv::Mat previous = Grey(grey[b][0], enlarge);
    for (std::int64_t f = 1; f < video.size(2); ++f) {
      const cv::Mat next = Grey(grey[b][f], enlarge);
      const PairFlow pair = Between(previous, next, Median(previous));
      sum.moved += pair.moved;
      sum.weight += pair.weight;
      sum.error += pair.error;
      previous = next;
    }
    const double weight = std::max(sum.weight, 1e-6);
    out.magnitude[b] = sum.moved / weight / static_cast<double>(enlarge);
    out.consistency[b] = std::clamp(1 - sum.error / weight, 0.0, 1.0);
  }
  return out;
}

}  // namespace sgmd
