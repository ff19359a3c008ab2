#include "common/storage/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeader = 100'000'000;

[[noreturn]] void Refuse(const std::filesystem::path& path, const std::string& why) {
  throw Error("not a valid safetensors file: " + why, path.string());
}

// The JSON library keeps the last of two equal keys; the format allows none, so keys are watched while parsing.
json ParseHeader(const std::filesystem::path& path, std::string_view text) {
  if (text.empty() || text.front() != '{') Refuse(path, "the header does not begin with '{'");
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > 4) Refuse(path, "the header is nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      Refuse(path, "duplicate key \"" + parsed.get<std::string>() + "\"");
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& error) {
    Refuse(path, StrCat("the header is not JSON: ", error.what()));
  }
  if (!header.is_object()) Refuse(path, "the header is not a JSON object");
  return header;
}

std::uint64_t Unsigned(const std::filesystem::path& path, const std::string& name, const json& value) {
  if (!value.is_number_unsigned()) Refuse(path, "tensor " + name + ": a number is not a non-negative integer");
  return value.get<std::uint64_t>();
}

TensorView ParseEntry(const std::filesystem::path& path, const std::string& name, const json& entry,
                      std::span<const std::byte> buffer) {
  const auto part = [&](const char* key, auto is_right) -> const json& {
    if (!entry.is_object() || !entry.contains(key) || !is_right(entry[key])) {
      Refuse(path, StrCat("tensor ", name, ": \"", key, "\" is missing or of the wrong type"));
    }
    return entry[key];
  };
  TensorView view;
  view.name = name;
  try {
    view.dtype = DTypeFromName(part("dtype", [](const json& j) { return j.is_string(); }).get<std::string>());
    for (const json& extent : part("shape", [](const json& j) { return j.is_array(); })) {
      view.shape.push_back(static_cast<std::int64_t>(Unsigned(path, name, extent)));
    }
    const json& offsets = part("data_offsets", [](const json& j) { return j.is_array() && j.size() == 2; });
    if (entry.size() != 3) Refuse(path, "tensor " + name + ": unknown key");
    const std::uint64_t begin = Unsigned(path, name, offsets[0]), end = Unsigned(path, name, offsets[1]);
    if (begin > end || end > buffer.size()) Refuse(path, "tensor " + name + ": offsets outside the file (truncated?)");
    view.bytes = buffer.subspan(begin, end - begin);
    if (CheckedByteSize(view.dtype, view.shape) != view.bytes.size()) {
      Refuse(path, "tensor " + name + ": shape and offsets disagree");
    }
  } catch (const Error& error) {
    if (!error.where().empty()) throw;
    Refuse(path, "tensor " + name + ": " + error.message());
  }
  return view;
}

void RequireTiling(const std::filesystem::path& path, std::vector<TensorView>& tensors,
                   std::span<const std::byte> buffer) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorView& a, const TensorView& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  const std::byte* expected = buffer.data();
  for (const TensorView& view : tensors) {
    if (view.bytes.data() > expected) Refuse(path, "hole before tensor " + view.name);
    if (view.bytes.data() < expected) Refuse(path, "tensor " + view.name + " overlaps another");
    expected += view.bytes.size();
  }
  if (expected != buffer.data() + buffer.size()) Refuse(path, "bytes after the last tensor");
}

}  // namespace

struct SafetensorsFile::Mapping {
  std::filesystem::path path;
  void* address = nullptr;
  std::size_t size = 0;
  std::vector<TensorView> tensors;
  std::unordered_map<std::string_view, std::size_t> by_name;
  Metadata metadata;

  ~Mapping() {
    if (address != nullptr) ::munmap(address, size);
  }

  void Map() {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) ThrowErrno("cannot open", path.string());
    struct stat info {};
    const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    size = static_cast<std::size_t>(info.st_size);
    if (regular && size >= 8) address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (!regular || size < 8) Refuse(path, "shorter than its length field");
    if (address == MAP_FAILED) {
      address = nullptr;
      ThrowErrno("cannot map", path.string());
    }
  }

  void Parse() {
    const auto* bytes = static_cast<const std::byte*>(address);
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, bytes, 8);
    if (header_size > kMaxHeader) Refuse(path, StrCat("header length ", header_size, " is over ", kMaxHeader));
    if (header_size > size - 8) Refuse(path, "the header is longer than the file (truncated?)");
    const json header = ParseHeader(path, {reinterpret_cast<const char*>(bytes + 8), header_size});
    const std::span<const std::byte> buffer(bytes + 8 + header_size, size - 8 - header_size);
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        ParseMetadata(entry);
      } else {
        tensors.push_back(ParseEntry(path, name, entry, buffer));
      }
    }
    RequireTiling(path, tensors, buffer);
    for (std::size_t i = 0; i < tensors.size(); ++i) by_name.emplace(tensors[i].name, i);
  }

  void ParseMetadata(const json& entry) {
    if (!entry.is_object()) Refuse(path, "__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) Refuse(path, "__metadata__." + key + " is not a string");
      metadata.emplace(key, value.get<std::string>());
    }
  }
};

SafetensorsFile::SafetensorsFile(std::shared_ptr<const Mapping> mapping) : mapping_(std::move(mapping)) {}

SafetensorsFile SafetensorsFile::Open(const std::filesystem::path& path) {
  auto mapping = std::make_shared<Mapping>();
  mapping->path = path;
  mapping->Map();
  mapping->Parse();
  return SafetensorsFile(std::move(mapping));
}

const std::vector<TensorView>& SafetensorsFile::tensors() const { return mapping_->tensors; }

const TensorView* SafetensorsFile::Find(std::string_view name) const {
  const auto it = mapping_->by_name.find(name);
  return it == mapping_->by_name.end() ? nullptr : &mapping_->tensors[it->second];
}

const TensorView& SafetensorsFile::At(std::string_view name) const {
  if (const TensorView* view = Find(name)) return *view;
  throw Error(StrCat("tensor ", name, " is missing"), mapping_->path.string());
}

const Metadata& SafetensorsFile::metadata() const { return mapping_->metadata; }

const std::filesystem::path& SafetensorsFile::path() const { return mapping_->path; }

void SafetensorsFile::Release(std::span<const std::byte> bytes) const {
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
  const auto first = reinterpret_cast<std::uintptr_t>(mapping_->address);
  if (begin < first || end > first + mapping_->size || begin >= end) return;
  ::madvise(reinterpret_cast<void*>(begin), end - begin,
            MADV_DONTNEED);  // a private, never written mapping: read again on use
}

}  // namespace sgmd
