// Fills the fields of a settings struct from a TOML file.
#pragma once

#include "common/config/fields.h"
#include "common/config/toml_reader.h"

namespace sgmd {

/// Throws Error located in the file at the first value that is missing, of the wrong type or out of range.
class FieldReader : public FieldVisitor {
 public:
  explicit FieldReader(TomlTable root) : root_(root), table_(root) {}

  void Section(const char* name, const char* meaning) override;
  void Field(const Key& key, std::string& value) override;
  void Field(const Key& key, std::int64_t& value) override;
  void Field(const Key& key, double& value) override;
  void Field(const Key& key, bool& value) override;
  void Field(const Key& key, std::filesystem::path& value) override;
  void Field(const Key& key, std::vector<std::int64_t>& value) override;
  void Field(const Key& key, std::vector<std::string>& value) override;
  void Field(const Key& key, std::map<std::string, std::string>& values) override;
  void Default(const std::function<void()>& set) override { set(); }

 private:
  void Choice(const Key& key, std::span<const char* const> spellings, std::size_t& index) override;

  TomlTable root_, table_;
};

/// The table of a dotted section name.
TomlTable SectionOf(TomlTable root, std::string_view name);

}  // namespace sgmd
