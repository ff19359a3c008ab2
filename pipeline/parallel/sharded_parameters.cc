#include "pipeline/parallel/sharded_parameters.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::int64_t kRow = 256;          // elements that a kernel adds up: the same ones whatever it is given
constexpr std::int64_t kGrainsAtOnce = 64;  // bounds the copies in float64

// The sum of squares of each grain of a tensor of whole grains. A kernel's order of additions may depend on how much it
// is given, so it adds rows alone, and those are added here.
std::vector<double> SquaresByGrain(const at::Tensor& flat) {
  const at::Tensor rows = flat.view({-1, kRow}).to(at::kDouble).square().sum(1).to(at::kCPU).contiguous();
  const double* row = rows.const_data_ptr<double>();
  std::vector<double> grains(static_cast<std::size_t>(flat.numel() / kGrain), 0);
  for (double& grain : grains) {
    for (std::int64_t i = 0; i < kGrain / kRow; ++i) grain += *row++;
  }
  return grains;
}

// Grains [first, first + count) of a segment of whole tensors (undefined: zeros), filled up with zeros.
at::Tensor Grains(const ShardSegment& segment, const std::map<std::string, at::Tensor>& tensors, std::int64_t first,
                  std::int64_t count) {
  std::vector<at::Tensor> pieces;
  at::TensorOptions options = at::kFloat;
  std::int64_t missing = count * kGrain;
  for (const ShardEntry& entry : segment.entries) {
    const auto [offset, length] = entry.Within(first * kGrain, count * kGrain);
    if (length == 0) continue;
    const at::Tensor& tensor = tensors.at(entry.name);
    if (tensor.defined()) options = tensor.options();
    pieces.push_back(tensor.defined() ? tensor.reshape({-1}).narrow(0, offset, length) : at::zeros({length}, options));
    missing -= length;
  }
  pieces.push_back(at::zeros({missing}, options));
  return at::cat(pieces);
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
    for (const Slice& slice : segment.layout.Of(group_.rank(), group_.ranks())) {
      if (slice.name != name) continue;
      if (slice.count > 0) {
        segment.shard.narrow(0, slice.at, slice.count)
            .copy_(whole.detach().reshape({-1}).narrow(0, slice.offset, slice.count));
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
    std::vector<double> own;
    for (std::int64_t first = 0; first < grains; first += kGrainsAtOnce) {
      const std::int64_t count = std::min(kGrainsAtOnce, grains - first);
      const std::vector<double> found = shard.defined()
                                            ? SquaresByGrain(shard.narrow(0, first * kGrain, count * kGrain))
                                            : std::vector<double>(static_cast<std::size_t>(count), 0);
      own.insert(own.end(), found.begin(), found.end());
    }
    const at::Tensor all = at::empty({grains * group_.ranks()}, at::TensorOptions(at::kDouble).device(device_));
    group_.AllGather(all, at::tensor(own, at::kDouble).to(device_)).Wait();
    const at::Tensor squares = all.to(at::kCPU);
    for (std::int64_t i = 0; i < segment.layout.Grains(); ++i) sum += squares.const_data_ptr<double>()[i];
  });
  return std::sqrt(sum);
}

void ShardedParameters::ForEachWhole(const std::vector<at::Tensor>& shards, const NamedTensorVisitor& visit) const {
  const c10::NoGradGuard no_grad;
  std::size_t next = 0;
  ForEachTrained([&](const Unit&, const Segment& segment) {
    const at::Tensor flat = Gathered(segment, shards.at(next++).detach(), at::kFloat);
    for (const ShardEntry& entry : segment.layout.entries) visit(entry.name, ViewOf(flat, entry));
  });
}

std::vector<Slices> ShardedParameters::PlacesOfTrained() const {
  std::vector<Slices> places;
  ForEachTrained(
      [&](const Unit&, const Segment& segment) { places.push_back(segment.layout.Of(group_.rank(), group_.ranks())); });
  return places;
}

bool ShardedParameters::IsTrained(const std::string& name) const {
  for (const Segment& segment : At(UnitOf(name)).segments) {
    if (segment.trained &&
        std::ranges::find(segment.layout.entries, name, &ShardEntry::name) != segment.layout.entries.end())
      return true;
  }
  return false;
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
      for (std::int64_t first = 0; first < segment.Grains(); first += kGrainsAtOnce) {
        const std::int64_t count = std::min(kGrainsAtOnce, segment.Grains() - first);
        for (const double grain : SquaresByGrain(Grains(segment, gradients, first, count))) sum += grain;
      }
    }
  }
  return std::sqrt(sum);
}

}  // namespace sgmd
