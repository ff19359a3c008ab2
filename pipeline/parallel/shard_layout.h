// How the tensors of a model lie in shards: pure arithmetic. A unit (a block of the network, or what is outside of the
// blocks) is gathered as a whole; in it, the tensors of one kind lie one after the other as a segment, which is cut
// into grains, and the grains go to the ranks in runs of equal length. What is added up over grains, in their order,
// does not depend on the number of ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sgmd {

/// Elements. The last grain of a segment may be filled up with zeros.
inline constexpr std::int64_t kGrain = 1 << 16;

struct ShardEntry {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0, count = 0;  // elements, in the segment

  /// What of it lies in elements [first, first + length) of the segment, counted in its own elements; empty: count 0.
  struct Part {
    std::int64_t offset = 0, count = 0;
  };
  Part Within(std::int64_t first, std::int64_t length) const;
};

/// What of a tensor of the model lies in a tensor that a rank has: elements [at, at + count) of the latter are elements
/// [offset, offset + count) of the former, row-major.
struct Slice {
  std::string name;
  std::vector<std::int64_t> shape;  // of the model's tensor
  std::int64_t offset = 0, count = 0, at = 0;
};
using Slices = std::vector<Slice>;

struct ShardSegment {
  std::string kind;
  std::vector<ShardEntry> entries;
  std::int64_t count = 0;  // elements of all entries

  std::int64_t Grains() const { return (count + kGrain - 1) / kGrain; }
  /// Elements of each rank's shard: whole grains, enough of them that `ranks` shards hold the segment.
  std::int64_t ShardSize(int ranks) const { return (Grains() + ranks - 1) / ranks * kGrain; }
  /// What lies in the shard of `rank`: one for each entry, also where that is nothing.
  Slices Of(int rank, int ranks) const;
};

struct ShardUnit {
  std::string prefix;  // of its tensors' names, such as "blocks.3."; empty: what is outside of the blocks
  std::vector<ShardSegment> segments;
};

/// A tensor to be laid out.
struct LaidOut {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string kind;
};

/// Units in the order in which their first tensors come, segments likewise, tensors of a segment in the order given.
std::vector<ShardUnit> LayOut(const std::vector<LaidOut>& tensors);

/// "blocks.3." of "blocks.3.ffn.0.weight"; empty for what is outside of the blocks.
std::string UnitOf(const std::string& name);

}  // namespace sgmd
