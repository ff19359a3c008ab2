#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/safetensors.h"

namespace sgmd {
namespace {

void RequireNames(const std::filesystem::path& path, std::span<const TensorEntry> tensors) {
  std::set<std::string_view> names;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.name.empty() || tensor.name == "__metadata__" || !names.insert(tensor.name).second) {
      throw Error("tensor name \"" + tensor.name + "\" is empty, reserved or used twice", path.string());
    }
  }
}

std::vector<std::size_t> FileOrder(std::span<const TensorEntry> tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(-static_cast<int>(ByteSize(tensors[a].dtype)), std::string_view(tensors[a].name)) <
           std::pair(-static_cast<int>(ByteSize(tensors[b].dtype)), std::string_view(tensors[b].name));
  });
  return order;
}

// Padded to a multiple of 8, without the length in front.
std::string Header(std::span<const TensorEntry> tensors, const std::vector<std::size_t>& order, const Metadata& metadata) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const std::size_t i : order) {
    const std::uint64_t end = offset + CheckedByteSize(tensors[i].dtype, tensors[i].shape);
    header[tensors[i].name] = {{"dtype", Name(tensors[i].dtype)}, {"shape", tensors[i].shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

void StreamSafetensors(const std::filesystem::path& path, std::span<const TensorEntry> tensors,
                       const std::function<std::span<const std::byte>(std::size_t)>& bytes_of, Metadata metadata) {
  RequireNames(path, tensors);
  metadata.emplace("format", "pt");
  const std::vector<std::size_t> order = FileOrder(tensors);
  const std::string header = Header(tensors, order, metadata);
  const std::uint64_t header_size = header.size();
  AtomicFile file(path);
  file.Write({reinterpret_cast<const char*>(&header_size), 8});
  file.Write(header);
  for (const std::size_t i : order) {
    const std::span<const std::byte> bytes = bytes_of(i);
    if (CheckedByteSize(tensors[i].dtype, tensors[i].shape) != bytes.size()) {
      throw Error("tensor " + tensors[i].name + ": shape and bytes disagree", path.string());
    }
    file.Write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  file.Commit();
}

void WriteSafetensors(const std::filesystem::path& path, std::span<const TensorView> tensors, Metadata metadata) {
  std::vector<TensorEntry> entries;
  for (const TensorView& view : tensors) entries.push_back({view.name, view.dtype, view.shape});
  StreamSafetensors(path, entries, [&](std::size_t i) { return tensors[i].bytes; }, std::move(metadata));
}

}  // namespace sgmd
