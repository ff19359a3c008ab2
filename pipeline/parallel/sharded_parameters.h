// The parameters of a model, of which every rank of a group holds a shard: gathered unit by unit to be computed with.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "pipeline/parallel/collectives.h"
#include "pipeline/parallel/shard_layout.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// Shows a tensor of a model and its name.
using NamedTensorVisitor = std::function<void(const std::string& name, const at::Tensor& tensor)>;

/// A tensor of the model: what it is gathered in, and whether it is trained.
struct ShardedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  at::ScalarType dtype = at::kFloat;
  bool trained = true;
};

/// Shards of what is trained are float32; of what is frozen, in the dtype that they are gathered in. All ranks call
/// Gather, Exchange, Norm and Whole in the same order.
class ShardedParameters {
 public:
  /// Zeros. `group` outlives it.
  ShardedParameters(const std::vector<ShardedTensor>& tensors, Collectives& group, at::Device device);

  /// Takes this rank's part of `whole`, of any dtype and device. Throws Error on a tensor that the model has not.
  void Set(const std::string& name, const at::Tensor& whole);

  /// The tensors of a unit by name, views of buffers that are theirs alone.
  using Views = std::map<std::string, at::Tensor>;
  Views Gather(const std::string& unit) const;
  /// Adds the gradients of a unit's trained tensors (undefined: zeros), those of this rank's micro-batch, to the
  /// .grad() of their owners' shards, in the order of ranks. Every rank has a micro-batch; the order of ranks is
  /// theirs.
  void Exchange(const std::string& unit, const Views& gradients) const;
  /// This rank's trained shards of a unit, float32 leaves: their .grad() is what Exchange adds to.
  std::vector<at::Tensor> TrainedOf(const std::string& unit) const;
  /// Of all units, "<unit><kind>" each.
  NamedTensors Trained() const;
  /// Where each of Trained() lies.
  std::vector<Slices> PlacesOfTrained() const;
  void SetRequiresGrad(bool requires_grad);

  /// L2 norm over `shards`, one for each of Trained() (undefined: zeros), of all ranks together: squares in float64 by
  /// grain, added in the order of grains.
  double Norm(const std::vector<at::Tensor>& shards) const;
  /// Shows every trained tensor as a whole, float32, one after the other, of `shards` that lie as Trained() does; on
  /// every rank.
  void ForEachWhole(const std::vector<at::Tensor>& shards, const NamedTensorVisitor& visit) const;

  /// Names of a unit's tensors, ascending: the order of Views.
  std::vector<std::string> NamesOf(const std::string& unit) const;
  bool IsTrained(const std::string& name) const;
  Collectives& group() const { return group_; }

 private:
  struct Segment {
    ShardSegment layout;
    at::ScalarType dtype = at::kFloat;
    bool trained = true;
    at::Tensor shard;
  };
  struct Unit {
    std::string prefix;
    std::vector<Segment> segments;
  };
  const Unit& At(const std::string& unit) const;
  void ForEachTrained(const std::function<void(const Unit&, const Segment&)>& visit) const;
  at::Tensor Gathered(const Segment& segment, const at::Tensor& shard, at::ScalarType dtype) const;

  Collectives& group_;
  at::Device device_;
  std::vector<Unit> units_;
};

/// Norm of gradients of whole tensors by name (undefined: zeros), as ShardedParameters::Norm adds them.
double GrainNorm(const std::vector<ShardUnit>& layout, const std::map<std::string, at::Tensor>& gradients);

}  // namespace sgmd
