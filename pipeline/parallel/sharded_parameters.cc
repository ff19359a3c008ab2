#include "pipeline/parallel/sharded_parameters.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "common/error/error.h"

namespace sgmd {
namespace {

// [grains] of a tensor of whole grains: squares of each, in float64.
at::Tensor SquaresByGrain(const at::Tensor& flat) { return flat.view({-1, kGrain}).to(at::kDouble).square().sum(1); }

double InOrder(const at::Tensor& squares) {
  const at::Tensor all = squares.to(at::kCPU).contiguous();
  double sum = 0;
  for (std::int64_t i = 0; i < all.numel(); ++i) sum += all.const_data_ptr<double>()[i];
  return sum;
}

at::Tensor ViewOf(const at::Tensor& flat, const ShardEntry& entry) {
  return flat.narrow(0, entry.offset, entry.count).view(entry.shape);
}

}  // namespace

ShardedParameters::ShardedParameters(const std::vector<ShardedTensor>& tensors, Collectives& group, at::Device device)
    : group_(group), device_(device) {
  std::vector<LaidOut> all;
  std::map<std::string, std::pair<at::ScalarType, bool>> kinds;
  for (const ShardedTensor& tensor : tensors) {
    const std::string kind = StrCat(tensor.trained ? "trained" : "frozen", " in ", c10::toString(tensor.dtype));
    kinds[kind] = {tensor.dtype, tensor.trained};
    all.push_back({tensor.name, tensor.shape, kind});
  }
  for (const ShardUnit& unit : LayOut(all)) {
    Unit& added = units_.emplace_back(Unit{unit.prefix, {}});
    for (const ShardSegment& segment : unit.segments) {
      const auto [dtype, trained] = kinds.at(segment.kind);
      const auto options = at::TensorOptions(trained ? at::kFloat : dtype).device(device);
      added.segments.push_back({segment, dtype, trained, at::zeros({segment.ShardSize(group.ranks())}, options)});
    }
  }
}

void ShardedParameters::Set(const std::string& name, const at::Tensor& whole) {
  const c10::NoGradGuard no_grad;
  for (const Segment& segment : At(UnitOf(name)).segments) {
    for (const ShardEntry& entry : segment.layout.entries) {
      if (entry.name != name) continue;
      const std::int64_t size = segment.shard.numel(), first = group_.rank() * size;
      const auto [offset, count] = entry.Within(first, size);
      if (count > 0) {
        segment.shard.narrow(0, entry.offset + offset - first, count)
            .copy_(whole.detach().reshape({-1}).narrow(0, offset, count));
      }
      return;
    }
  }
  throw Error("the sharded model has no tensor " + name);
}

const ShardedParameters::Unit& ShardedParameters::At(const std::string& unit) const {
  for (const Unit& u : units_) {
    if (u.prefix == unit) return u;
  }
  throw Error("the sharded model has no unit \"" + unit + "\"");
}

at::Tensor ShardedParameters::Gathered(const Segment& segment, const at::Tensor& shard, at::ScalarType dtype) const {
  const at::Tensor flat = at::empty({shard.numel() * group_.ranks()}, at::TensorOptions(dtype).device(device_));
  group_.AllGather(flat, shard.to(dtype)).Wait();
  return flat;
}

ShardedParameters::Views ShardedParameters::Gather(const std::string& unit) const {
  const c10::NoGradGuard no_grad;
  Views views;
  for (const Segment& segment : At(unit).segments) {
    const at::Tensor flat = Gathered(segment, segment.shard.detach(), segment.dtype);
    for (const ShardEntry& entry : segment.layout.entries) views[entry.name] = ViewOf(flat, entry);
  }
  return views;
}

// Collectives move, they never add: each rank gets the gradients of its shard from all ranks, and adds them itself. The
// first is copied, as adding it to zeros would lose the sign of a -0.
void ShardedParameters::Exchange(const std::string& unit, const Views& gradients) const {
  const c10::NoGradGuard no_grad;
  for (const Segment& segment : At(unit).segments) {
    if (!segment.trained) continue;
    const std::int64_t size = segment.shard.numel();
    const at::Tensor send = at::zeros({group_.ranks(), size}, at::TensorOptions(segment.dtype).device(device_)),
                     received = at::empty_like(send);
    for (const ShardEntry& entry : segment.layout.entries) {
      const auto found = gradients.find(entry.name);
      if (found != gradients.end() && found->second.defined()) ViewOf(send.view({-1}), entry).copy_(found->second);
    }
    group_.AllToAll(received, send).Wait();
    at::Tensor shard = segment.shard;
    at::Tensor& sum = shard.mutable_grad();
    for (int rank = 0; rank < group_.ranks(); ++rank) {
      if (sum.defined()) {
        sum.add_(received[rank]);
      } else {
        sum = received[rank].to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
      }
    }
  }
}

std::vector<at::Tensor> ShardedParameters::TrainedOf(const std::string& unit) const {
  std::vector<at::Tensor> shards;
  for (const Segment& segment : At(unit).segments) {
    if (segment.trained) shards.push_back(segment.shard);
  }
  return shards;
}

void ShardedParameters::ForEachTrained(const std::function<void(const Unit&, const Segment&)>& visit) const {
  for (const Unit& unit : units_) {
    for (const Segment& segment : unit.segments) {
      if (segment.trained) visit(unit, segment);
    }
  }
}

NamedTensors ShardedParameters::Trained() const {
  NamedTensors all;
  ForEachTrained([&](const Unit& unit, const Segment& segment) {
    all.emplace_back(unit.prefix + segment.layout.kind, segment.shard);
  });
  return all;
}

void ShardedParameters::SetRequiresGrad(bool requires_grad) {
  for (const auto& [name, shard] : Trained()) shard.set_requires_grad(requires_grad);
}

double ShardedParameters::Norm(const std::vector<at::Tensor>& shards) const {
  const c10::NoGradGuard no_grad;
  double sum = 0;
  std::size_t next = 0;
  ForEachTrained([&](const Unit&, const Segment& segment) {
    const at::Tensor& shard = shards.at(next++);
    const std::int64_t grains = segment.shard.numel() / kGrain;
    const auto options = at::TensorOptions(at::kDouble).device(device_);
    const at::Tensor all = at::empty({grains * group_.ranks()}, options);
    group_.AllGather(all, shard.defined() ? SquaresByGrain(shard) : at::zeros({grains}, options)).Wait();
    sum += InOrder(all.narrow(0, 0, segment.layout.Grains()));
  });
  return std::sqrt(sum);
}

NamedTensors ShardedParameters::Whole(const std::vector<at::Tensor>& shards) const {
  const c10::NoGradGuard no_grad;
  NamedTensors all;
  std::size_t next = 0;
  ForEachTrained([&](const Unit&, const Segment& segment) {
    const at::Tensor flat = Gathered(segment, shards.at(next++).detach(), at::kFloat);
    for (const ShardEntry& entry : segment.layout.entries) all.emplace_back(entry.name, ViewOf(flat, entry).clone());
  });
  return all;
}

std::vector<std::string> ShardedParameters::NamesOf(const std::string& unit) const {
  std::vector<std::string> names;
  for (const Segment& segment : At(unit).segments) {
    for (const ShardEntry& entry : segment.layout.entries) names.push_back(entry.name);
  }
  std::ranges::sort(names);
  return names;
}

double GrainNorm(const std::vector<ShardUnit>& layout, const std::map<std::string, at::Tensor>& gradients) {
  const c10::NoGradGuard no_grad;
  double sum = 0;
  for (const ShardUnit& unit : layout) {
    for (const ShardSegment& segment : unit.segments) {
      std::vector<at::Tensor> pieces;
      for (const ShardEntry& entry : segment.entries) {
        const at::Tensor& gradient = gradients.at(entry.name);
        pieces.push_back(gradient.defined() ? gradient.reshape({-1}) : at::zeros({entry.count}));
      }
      pieces.push_back(at::zeros({segment.Grains() * kGrain - segment.count}, pieces.front().options()));
      sum += InOrder(SquaresByGrain(at::cat(pieces)));
    }
  }
  return std::sqrt(sum);
}

}  // namespace sgmd
