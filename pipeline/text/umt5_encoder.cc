#include "pipeline/text/umt5_encoder.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/error/error.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/text/umt5_files.h"

namespace sgmd {
namespace {

// x / rms(x) * weight over the last axis.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * at::rsqrt(x.square().mean(-1, true) + eps) * weight;
}

at::Tensor BucketTable(std::int64_t length, const Umt5Config& c) {
  at::Tensor table = at::empty({length, length}, at::kLong);
  auto* out = table.mutable_data_ptr<std::int64_t>();
  for (std::int64_t query = 0; query < length; ++query) {
    for (std::int64_t key = 0; key < length; ++key) {
      *out++ = RelativePositionBucket(key - query, c.relative_attention_num_buckets, c.relative_attention_max_distance);
    }
  }
  return table.view(-1);
}

}  // namespace

std::int64_t RelativePositionBucket(std::int64_t relative, std::int64_t buckets, std::int64_t max_distance) {
  const std::int64_t half = buckets / 2, exact = half / 2, distance = std::abs(relative);
  const std::int64_t base = relative > 0 ? half : 0;
  if (distance < exact) return base + distance;
  // In float32 and in this order, as models were trained: elsewhere a distance on the border of two buckets may change
  // sides.
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  const auto further = static_cast<std::int64_t>(ratio * static_cast<float>(half - exact));
  return base + std::min(half - 1, exact + further);
}

Umt5Encoder::Umt5Encoder(Umt5Config config, ShardedSafetensors file, at::Device device)
    : config_(config), file_(std::move(file)), device_(device) {
  CheckUmt5Tensors(config_, file_);
  if (device_.is_cpu()) return;
  for (const Umt5Tensor& tensor : Umt5Tensors(config_)) {
    if (tensor.name != kUmt5Embedding) on_device_[tensor.name] = CopyToTensor(View(tensor.name)).to(device_);
  }
}

Umt5Encoder Umt5Encoder::Load(const std::filesystem::path& path, at::Device device) {
  const Umt5Files files = FindUmt5Files(path);
  return {files.config, ShardedSafetensors::Open(files.weights), device};
}

const TensorView& Umt5Encoder::View(const std::string& name) const { return *FindUmt5Tensor(file_, name); }

at::Tensor Umt5Encoder::Weight(const std::string& name) const {
  const auto it = on_device_.find(name);
  return it == on_device_.end() ? CopyToTensor(View(name)).to(at::kFloat) : it->second.to(at::kFloat);
}

Umt5Encoder::Layer Umt5Encoder::ReadLayer(std::int64_t n) const {
  const auto part = [&](const char* tail) { return Weight(StrCat("encoder.block.", n, ".layer.", tail, ".weight")); };
  Layer layer;
  layer.norm1 = part("0.layer_norm");
  layer.q = part("0.SelfAttention.q");
  layer.k = part("0.SelfAttention.k");
  layer.v = part("0.SelfAttention.v");
  layer.o = part("0.SelfAttention.o");
  layer.bias_table = part("0.SelfAttention.relative_attention_bias");
  layer.norm2 = part("1.layer_norm");
  layer.wi_0 = part("1.DenseReluDense.wi_0");
  layer.wi_1 = part("1.DenseReluDense.wi_1");
  layer.wo = part("1.DenseReluDense.wo");
  return layer;
}

at::Tensor Umt5Encoder::Embed(const std::vector<std::int64_t>& ids) const {
  if (ids.empty()) {
    throw Error("a prompt without tokens cannot be encoded", {}, "even the empty prompt has the end-of-text token");
  }
  const TensorView& table = View(kUmt5Embedding);
  const std::size_t row = table.bytes.size() / static_cast<std::size_t>(config_.vocab_size);
  at::Tensor rows = at::empty({static_cast<std::int64_t>(ids.size()), config_.d_model}, ToTorch(table.dtype));
  auto* out = static_cast<std::byte*>(rows.mutable_data_ptr());
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= config_.vocab_size) {
      throw Error(StrCat("token ", id, " is outside the encoder's vocabulary of ", config_.vocab_size),
                  file_.path().string(), "tokenizer and text encoder must belong together");
    }
    std::memcpy(out, table.bytes.data() + static_cast<std::size_t>(id) * row, row);
    out += row;
  }
  return rows.to(device_).to(at::kFloat);
}

// h [L, d_model] normalised -> [L, d_model]. Scores are not scaled: umT5 folds the factor into its weights.
at::Tensor Umt5Encoder::Attend(const Layer& layer, const at::Tensor& h, const at::Tensor& buckets) const {
  const std::int64_t length = h.size(0);
  const auto heads = [&](const at::Tensor& weight) {
    return at::linear(h, weight).view({length, config_.num_heads, config_.d_kv}).transpose(0, 1);  // [H, L, d_kv]
  };
  const at::Tensor bias =
      layer.bias_table.index_select(0, buckets).view({length, length, config_.num_heads}).permute({2, 0, 1});
  const at::Tensor scores = at::matmul(heads(layer.q), heads(layer.k).transpose(1, 2)) + bias;
  const at::Tensor mixed = at::matmul(at::softmax(scores, -1), heads(layer.v));
  return at::linear(mixed.transpose(0, 1).reshape({length, config_.inner_dim()}), layer.o);
}

at::Tensor Umt5Encoder::RunLayer(const Layer& layer, at::Tensor h, const at::Tensor& buckets) const {
  h = h + Attend(layer, RmsNorm(h, layer.norm1, config_.layer_norm_epsilon), buckets);
  const at::Tensor x = RmsNorm(h, layer.norm2, config_.layer_norm_epsilon);
  const at::Tensor gated = at::gelu(at::linear(x, layer.wi_0), "tanh") * at::linear(x, layer.wi_1);
  return h + at::linear(gated, layer.wo);
}

at::Tensor Umt5Encoder::Encode(const std::vector<std::int64_t>& ids) const { return EncodeAll({ids}).front(); }

std::vector<at::Tensor> Umt5Encoder::EncodeAll(const std::vector<std::vector<std::int64_t>>& prompts,
                                               const Progress& progress) const {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> rows;
  std::map<std::int64_t, at::Tensor> buckets;  // by length
  std::int64_t tokens = 0, done = 0;
  for (const auto& ids : prompts) {
    rows.push_back(Embed(ids));
    const std::int64_t length = rows.back().size(0);
    tokens += length;
    if (!buckets.contains(length)) buckets[length] = BucketTable(length, config_).to(device_);
  }
  for (std::int64_t n = 0; n < config_.num_layers; ++n) {
    const Layer layer = ReadLayer(n);
    // One prompt after the other: a matrix product of all rows at once may differ in its last bits from that of each.
    for (at::Tensor& h : rows) {
      h = RunLayer(layer, h, buckets.at(h.size(0)));
      done += h.size(0);
      if (progress) progress(done, tokens * config_.num_layers);
    }
  }
  const at::Tensor norm = Weight("encoder.final_layer_norm.weight");
  for (at::Tensor& h : rows) h = RmsNorm(h, norm, config_.layer_norm_epsilon).to(at::kCPU).contiguous();
  return rows;
}

Digest Umt5Encoder::digest(const Progress& progress) const {
  if (digest_) return *digest_;
  const Umt5Config& c = config_;
  Hasher hasher;
  hasher.Text("umt5").Real(c.layer_norm_epsilon).Integer(c.num_heads).Integer(c.relative_attention_max_distance);
  const auto tensors = Umt5Tensors(c);
  std::int64_t total = 0, done = 0;
  for (const Umt5Tensor& tensor : tensors) total += static_cast<std::int64_t>(View(tensor.name).bytes.size());
  for (const Umt5Tensor& tensor : tensors) {  // name and shape fix every other size of the config
    const TensorView& view = View(tensor.name);
    hasher.Text(tensor.name).Text(Name(view.dtype)).Integer(view.shape.size());
    for (const std::int64_t extent : view.shape) hasher.Integer(static_cast<std::uint64_t>(extent));
    hasher.Bytes(view.bytes);
    done += static_cast<std::int64_t>(view.bytes.size());
    if (progress) progress(done, total);
  }
  digest_ = hasher.Finish();
  return *digest_;
}

}  // namespace sgmd
