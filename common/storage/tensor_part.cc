#include "common/storage/tensor_part.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr char kPartsKey[] = "sgmd.parts";

std::int64_t Elements(DType dtype, std::span<const std::int64_t> shape) {
  return static_cast<std::int64_t>(CheckedByteSize(dtype, shape) / ByteSize(dtype));
}

std::int64_t Elements(const TensorView& view) {
  return static_cast<std::int64_t>(view.bytes.size() / ByteSize(view.dtype));
}

// Empty when the part lies inside its tensor; otherwise what is wrong.
std::string ProblemOf(const TensorPart& part) {
  const std::int64_t whole = Elements(part.view.dtype, part.shape), count = Elements(part.view);
  if (part.offset < 0 || part.replica < 0 || part.offset > whole || count > whole - part.offset) {
    return StrCat("the part of ", part.view.name, " does not lie inside its tensor");
  }
  return "";
}

bool IsWhole(const TensorPart& part) { return part.view.shape == part.shape && part.replica == 0; }

nlohmann::json PlacesIn(const SafetensorsFile& file) {
  const auto text = file.metadata().find(kPartsKey);
  if (text == file.metadata().end()) return nlohmann::json::object();
  auto places = nlohmann::json::parse(text->second, nullptr, /*allow_exceptions=*/false);
  if (!places.is_object()) throw Error(StrCat("metadata \"", kPartsKey, "\" is not an object"), file.path().string());
  return places;
}

TensorPart PartOf(const SafetensorsFile& file, const TensorView& view, const nlohmann::json& places) {
  const auto place = places.find(view.name);
  if (place == places.end()) return TensorPart::Whole(view);
  TensorPart part;
  try {
    part = {view, place->at("shape").get<std::vector<std::int64_t>>(), place->at("offset").get<std::int64_t>(),
            place->at("replica").get<std::int64_t>()};
  } catch (const nlohmann::json::exception&) {
    throw Error(StrCat("metadata \"", kPartsKey, "\" does not say where ", view.name, " belongs"),
                file.path().string());
  }
  if (const std::string problem = ProblemOf(part); !problem.empty()) throw Error(problem, file.path().string());
  return part;
}

}  // namespace

TensorPart TensorPart::Whole(TensorView view) {
  TensorPart part;
  part.shape = view.shape;
  part.view = std::move(view);
  return part;
}

void WriteTensorParts(const std::filesystem::path& path, std::span<const TensorPart> parts, Metadata metadata) {
  std::vector<TensorView> views;
  nlohmann::json places = nlohmann::json::object();
  for (const TensorPart& part : parts) {
    if (const std::string problem = ProblemOf(part); !problem.empty()) throw Error(problem, path.string());
    views.push_back(part.view);
    if (IsWhole(part)) continue;
    views.back().shape = {Elements(part.view)};
    places[part.view.name] = {{"shape", part.shape}, {"offset", part.offset}, {"replica", part.replica}};
  }
  if (!places.empty()) metadata[kPartsKey] = places.dump();
  WriteSafetensors(path, views, std::move(metadata));
}

TensorParts TensorParts::Open(const std::vector<std::filesystem::path>& files) {
  TensorParts all;
  for (const auto& path : files) all.Add(SafetensorsFile::Open(path));
  for (const auto& [name, tensor] : all.tensors_) all.RequireWhole(name, tensor);
  return all;
}

void TensorParts::Add(const SafetensorsFile& file) {
  files_.push_back(file);
  const nlohmann::json places = PlacesIn(file);
  for (const TensorView& view : file.tensors()) {
    const TensorPart part = PartOf(file, view, places);
    const auto [tensor, is_new] = tensors_.emplace(view.name, Tensor{view.dtype, part.shape});
    if (!is_new && (tensor->second.dtype != view.dtype || tensor->second.shape != part.shape)) {
      throw Error(StrCat("the parts of ", view.name, " disagree in shape or dtype"), file.path().string());
    }
    if (view.bytes.empty()) continue;  // a rank may have nothing of a tensor
    const auto [there, added] = parts_[view.name].emplace(part.offset, part);
    if (!added && there->second.replica == part.replica) {
      throw Error(StrCat("two parts of ", view.name, " begin at element ", part.offset), file.path().string());
    }
    if (part.replica < there->second.replica) there->second = part;
  }
}

void TensorParts::RequireWhole(const std::string& name, const Tensor& tensor) const {
  const std::string where = files_.front().path().parent_path().string();
  std::int64_t end = 0;
  if (const auto parts = parts_.find(name); parts != parts_.end()) {
    for (const auto& [offset, part] : parts->second) {
      if (offset < end) throw Error(StrCat("the parts of ", name, " overlap at element ", offset), where);
      if (offset > end) break;
      end = offset + Elements(part.view);
    }
  }
  if (end != Elements(tensor.dtype, tensor.shape)) {
    throw Error(StrCat("the parts of ", name, " leave a hole at element ", end), where,
                "is the file of a rank missing?");
  }
}

void TensorParts::Read(const std::string& name, std::int64_t offset, std::span<std::byte> out) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error("no tensor " + name, files_.empty() ? "" : files_.front().path().string());
  const Tensor& tensor = found->second;
  const auto size = static_cast<std::int64_t>(ByteSize(tensor.dtype));
  const std::int64_t last = offset + static_cast<std::int64_t>(out.size()) / size;
  if (offset < 0 || last > Elements(tensor.dtype, tensor.shape)) {
    throw Error(StrCat("elements ", offset, " to ", last, " are not inside ", name), files_.front().path().string());
  }
  const auto parts = parts_.find(name);
  if (parts == parts_.end()) return;  // a tensor of no elements
  for (const auto& [start, part] : parts->second) {
    const std::int64_t from = std::max(offset, start), to = std::min(last, start + Elements(part.view));
    if (from >= to) continue;
    std::memcpy(out.data() + (from - offset) * size, part.view.bytes.data() + (from - start) * size,
                static_cast<std::size_t>((to - from) * size));
  }
}

std::optional<std::span<const std::byte>> TensorParts::InOnePiece(const std::string& name) const {
  const auto parts = parts_.find(name);
  if (parts == parts_.end() || parts->second.size() != 1) return {};
  return parts->second.begin()->second.view.bytes;
}

}  // namespace sgmd
