// The fields of a settings struct as texts, and what is made of them: TOML, an identity, a reference for people.
#pragma once

#include <string>
#include <vector>

#include "common/config/fields.h"

namespace sgmd {

/// One field with its value as TOML.
struct FieldText {
  std::string section, section_meaning;
  Key key;
  std::string name;                    // of the key; in a section of free keys the one in the file
  std::string value;                   // such as 0.1, "sgmd", [1000, 500]; read back it is equal
  std::vector<std::string> spellings;  // of a choice; else empty
  const char* type = "";               // for people: "integer", "path", ...
  bool empty = false;                  // an empty text or list, or a path of no file
};

/// The fields of `settings` in the order of their table, which VisitFields(FieldVisitor&, Settings&) walks.
template <typename Settings>
std::vector<FieldText> FieldTextsOf(Settings settings);

/// Collects the texts; FieldTextsOf is the way to use it.
class FieldTexts : public FieldVisitor {
 public:
  void Section(const char* name, const char* meaning) override;
  void Field(const Key& key, std::string& value) override;
  void Field(const Key& key, std::int64_t& value) override;
  void Field(const Key& key, double& value) override;
  void Field(const Key& key, bool& value) override;
  void Field(const Key& key, std::filesystem::path& value) override;
  void Field(const Key& key, std::vector<std::int64_t>& value) override;
  void Field(const Key& key, std::vector<std::string>& value) override;
  void Field(const Key& key, std::map<std::string, std::string>& values) override;
  std::vector<FieldText> texts;

 private:
  void Choice(const Key& key, std::span<const char* const> spellings, std::size_t& index) override;
  FieldText& Add(const Key& key, const char* type);

  std::string section_, section_meaning_;
};

template <typename Settings>
std::vector<FieldText> FieldTextsOf(Settings settings) {
  FieldTexts visitor;
  VisitFields(visitor, settings);
  return std::move(visitor.texts);
}

/// A TOML document with every field, but for optional ones that are empty.
std::string ToToml(const std::vector<FieldText>& fields);

/// Markdown: a table a section with key, type, default, range and meaning.
std::string Reference(const std::vector<FieldText>& fields);

}  // namespace sgmd
