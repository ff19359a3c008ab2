#include "pipeline/parallel/shard_layout.h"

#include <algorithm>

namespace sgmd {
namespace {

constexpr char kBlocks[] = "blocks.";

// The element of `all` whose `field` is `value`, added where there is none.
template <typename T>
T& FindOrAdd(std::vector<T>& all, std::string T::*field, const std::string& value) {
  const auto it = std::ranges::find(all, value, field);
  if (it != all.end()) return *it;
  all.emplace_back().*field = value;
  return all.back();
}

}  // namespace

ShardEntry::Part ShardEntry::Within(std::int64_t first, std::int64_t length) const {
  const std::int64_t begin = std::max(first, offset), end = std::min(first + length, offset + count);
  return {begin - offset, std::max<std::int64_t>(end - begin, 0)};
}

Slices ShardSegment::Of(int rank, int ranks) const {
  const std::int64_t size = ShardSize(ranks), first = rank * size;
  Slices slices;
  for (const ShardEntry& entry : entries) {
    const auto [offset, length] = entry.Within(first, size);
    slices.push_back(
        {entry.name, entry.shape, length > 0 ? offset : 0, length, length > 0 ? entry.offset + offset - first : 0});
  }
  return slices;
}

std::string UnitOf(const std::string& name) {
  if (!name.starts_with(kBlocks)) return "";
  return name.substr(0, name.find('.', sizeof kBlocks - 1) + 1);
}

std::vector<ShardUnit> LayOut(const std::vector<LaidOut>& tensors) {
  std::vector<ShardUnit> units;
  for (const auto& [name, shape, kind] : tensors) {
    ShardUnit& unit = FindOrAdd(units, &ShardUnit::prefix, UnitOf(name));
    ShardSegment& segment = FindOrAdd(unit.segments, &ShardSegment::kind, kind);
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    segment.entries.push_back({name, shape, segment.count, count});
    segment.count += count;
  }
  return units;
}

}  // namespace sgmd
