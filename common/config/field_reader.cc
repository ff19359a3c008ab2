#include "common/config/field_reader.h"

#include <algorithm>

namespace sgmd {
namespace {

// The value that an absent key keeps; nothing for a key that must be there.
template <typename T>
std::optional<T> Fallback(const Key& key, const T& value) {
  if (key.presence == Presence::kRequired) return {};
  return value;
}

}  // namespace

TomlTable SectionOf(TomlTable root, std::string_view name) {
  const auto dot = name.find('.');
  if (dot == std::string_view::npos) return root.Table(name);
  return SectionOf(root.Table(name.substr(0, dot)), name.substr(dot + 1));
}

void FieldReader::Section(const char* name, const char*) { table_ = SectionOf(root_, name); }

void FieldReader::Field(const Key& key, std::string& value) { value = table_.Text(key.name, Fallback(key, value)); }

void FieldReader::Field(const Key& key, std::int64_t& value) {
  value = table_.Integer(key.name, key.range, Fallback(key, value));
}

void FieldReader::Field(const Key& key, double& value) {
  value = table_.Real(key.name, key.range, Fallback(key, value));
}

void FieldReader::Field(const Key& key, bool& value) { value = table_.Boolean(key.name, Fallback(key, value)); }

void FieldReader::Field(const Key& key, std::filesystem::path& value) {
  value = table_.Path(key.name, Fallback(key, value));
}

void FieldReader::Field(const Key& key, std::vector<std::int64_t>& value) {
  value = table_.Integers(key.name, key.range, Fallback(key, value));
}

void FieldReader::Field(const Key& key, std::vector<std::string>& value) {
  value = table_.Texts(key.name, Fallback(key, value));
}

void FieldReader::Field(const Key&, std::map<std::string, std::string>& values) {
  for (const std::string& name : table_.Keys()) values[name] = table_.Text(name);
}

void FieldReader::Choice(const Key& key, std::span<const char* const> spellings, std::size_t& index) {
  const std::vector<std::string> allowed(spellings.begin(), spellings.end());
  const std::string value = table_.Choice(key.name, allowed, Fallback(key, allowed[index]));
  index = static_cast<std::size_t>(std::find(allowed.begin(), allowed.end(), value) - allowed.begin());
}

}  // namespace sgmd
