#include "pipeline/data/bouncing_balls.h"

#include <ATen/ATen.h>

#include <numbers>

#include "common/error/error.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

constexpr std::array<const char*, 2> kSizes{"small", "large"};
constexpr std::array<const char*, 4> kColours{"red", "green", "blue", "yellow"};
constexpr float kRgb[4][3] = {{1.0F, 0.15F, 0.15F}, {0.15F, 1.0F, 0.25F}, {0.2F, 0.4F, 1.0F}, {1.0F, 0.9F, 0.1F}};

// Position at every frame of a point that starts at `start` and is reflected between `low` and `high`. All [B] -> [B,
// F].
at::Tensor Reflect(const at::Tensor& start, const at::Tensor& velocity, std::int64_t frames, double low, double high) {
  const double span = high - low;
  const at::Tensor free = start.unsqueeze(1) - low + at::outer(velocity, at::arange(frames, at::kFloat));
  const at::Tensor folded = at::remainder(free, 2 * span);  // a triangle wave of period 2 span
  return low + at::minimum(folded, 2 * span - folded);
}

// The videos of given prompts (int64 [B]) and kinds of speed (bool [B]); `draw` [4, B] in [0, 1): speed, direction, x,
// y.
BouncingBallBatch Film(const BouncingBallsShape& shape, const at::Tensor& prompt, const at::Tensor& fast,
                       const at::Tensor& draw) {
  const std::int64_t batch = prompt.size(0);
  const at::Tensor speed = at::where(fast, 0.6 + 0.3 * draw[0], 0.05 + 0.15 * draw[0]);
  const at::Tensor angle = draw[1] * (2 * std::numbers::pi);
  const auto axis = [&](const at::Tensor& place, const at::Tensor& direction, std::int64_t extent) {
    const double low = 1.0, high = static_cast<double>(extent) - 2.0;  // pixel centres, one pixel from the border
    return Reflect(low + (high - low) * place, speed * direction, shape.frames, low, high);
  };
  const at::Tensor x = axis(draw[2], angle.cos(), shape.width), y = axis(draw[3], angle.sin(), shape.height);

  const at::Tensor dx = x.view({batch, shape.frames, 1, 1}) - at::arange(shape.width, at::kFloat).view({1, 1, 1, -1});
  const at::Tensor dy = y.view({batch, shape.frames, 1, 1}) - at::arange(shape.height, at::kFloat).view({1, 1, -1, 1});
  const at::Tensor radius = at::where(prompt < 4, 1.0, 1.5).to(at::kFloat).view({batch, 1, 1, 1});
  const at::Tensor ball = at::exp(-(dx.square() + dy.square()) / (2 * radius.square()));  // [B, F, H, W]
  const at::Tensor rgb = at::from_blob(const_cast<float*>(&kRgb[0][0]), {4, 3}, at::kFloat).index_select(0, prompt % 4);

  BouncingBallBatch out;
  out.video = 2 * ball.unsqueeze(1) * rgb.view({batch, 3, 1, 1, 1}) - 1;
  out.speed = speed;
  out.velocity = at::stack({speed * angle.cos(), speed * angle.sin()}, 1);
  out.position = at::stack({x, y}, 2);
  out.prompt.assign(prompt.const_data_ptr<std::int64_t>(), prompt.const_data_ptr<std::int64_t>() + batch);
  return out;
}

}  // namespace

const std::vector<std::string>& BouncingBallPrompts() {
  static const std::vector<std::string> prompts = [] {
    std::vector<std::string> all;
    for (const char* size : kSizes) {
      for (const char* colour : kColours) all.push_back(StrCat("a ", size, " ", colour, " ball"));
    }
    return all;
  }();
  return prompts;
}

BouncingBallBatch DrawBouncingBalls(const BouncingBallsShape& shape, std::int64_t batch, std::uint64_t seed) {
  const at::Tensor draw = Uniform({6, batch}, seed);  // prompt, fast?, speed, direction, x, y
  return Film(shape, (draw[0] * 8).to(at::kLong), draw[1] >= 0.5, draw.slice(0, 2));
}

BouncingBallBatch DrawBallsInTurn(const BouncingBallsShape& shape, std::int64_t batch, std::uint64_t seed) {
  const at::Tensor number = at::arange(batch, at::kLong);
  return Film(shape, number % 8, number.div(8, "floor") % 2 == 1, Uniform({4, batch}, seed));
}

}  // namespace sgmd
