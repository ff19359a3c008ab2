#include "common/config/field_text.h"

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <charconv>
#include <cmath>
#include <sstream>

#include "common/error/error.h"

namespace sgmd {
namespace {

// The shortest number that reads back equal; toml++ would print 0.1 as 0.10000000000000001.
std::string Shortest(double value) {
  char digits[32];
  const std::string number(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  return number.find_first_of(".en") == std::string::npos ? number + ".0" : number;
}

std::string Quoted(const std::string& text) {
  const toml::array list{text};
  std::ostringstream out;
  out << toml::toml_formatter{list, toml::format_flags::allow_unicode_strings};
  const std::string printed = out.str();  // [ "text" ]
  return printed.substr(2, printed.size() - 4);
}

}  // namespace

std::string RangeText(const NumberRange& range) {
  const bool below = std::isfinite(range.low), above = std::isfinite(range.high);
  if (!below && !above) return "";
  if (!above) return StrCat(range.low_open ? "> " : ">= ", range.low);
  return StrCat(range.low_open ? "(" : "[", range.low, ", ", range.high, range.high_open ? ")" : "]");
}

void FieldTexts::Section(const char* name, const char* meaning) {
  section_ = name;
  section_meaning_ = meaning;
}

FieldText& FieldTexts::Add(const Key& key, const char* type) {
  texts.push_back({section_, section_meaning_, key, key.name, "", {}, type, false});
  return texts.back();
}

void FieldTexts::Field(const Key& key, std::string& value) {
  FieldText& text = Add(key, "text");
  text.value = Quoted(value);
  text.empty = value.empty();
}

void FieldTexts::Field(const Key& key, std::int64_t& value) { Add(key, "integer").value = std::to_string(value); }

void FieldTexts::Field(const Key& key, double& value) { Add(key, "number").value = Shortest(value); }

void FieldTexts::Field(const Key& key, bool& value) { Add(key, "true or false").value = value ? "true" : "false"; }

void FieldTexts::Field(const Key& key, std::filesystem::path& value) {
  FieldText& text = Add(key, "path");
  text.value = Quoted(value.string());
  text.empty = value.empty();
}

void FieldTexts::Field(const Key& key, std::vector<std::int64_t>& value) {
  FieldText& text = Add(key, "list of integers");
  for (const std::int64_t entry : value) text.value += (text.value.empty() ? "" : ", ") + std::to_string(entry);
  text.value = "[" + text.value + "]";
  text.empty = value.empty();
}

void FieldTexts::Field(const Key& key, std::vector<std::string>& value) {
  FieldText& text = Add(key, "list of texts");
  for (const std::string& entry : value) text.value += (text.value.empty() ? "" : ", ") + Quoted(entry);
  text.value = "[" + text.value + "]";
  text.empty = value.empty();
}

void FieldTexts::Field(const Key& key, std::map<std::string, std::string>& values) {
  for (auto& [name, value] : values) {
    Field(key, value);
    texts.back().name = name;
    texts.back().empty = false;
  }
  if (values.empty()) Add(key, "text").empty = true;
}

void FieldTexts::Choice(const Key& key, std::span<const char* const> spellings, std::size_t& index) {
  FieldText& text = Add(key, "choice");
  text.spellings.assign(spellings.begin(), spellings.end());
  text.value = Quoted(text.spellings[index]);
}

std::string ToToml(const std::vector<FieldText>& fields) {
  std::string text, section;
  for (const FieldText& field : fields) {
    if (field.section != section) text += StrCat(text.empty() ? "" : "\n", "[", field.section, "]\n");
    section = field.section;
    if (field.empty && field.key.presence == Presence::kOptional) continue;
    text += StrCat(field.name, " = ", field.value, "\n");
  }
  return text;
}

std::string Reference(const std::vector<FieldText>& fields) {
  std::string text, section;
  for (const FieldText& field : fields) {
    if (field.section != section) {
      text += StrCat(text.empty() ? "" : "\n", "### `[", field.section, "]`\n\n", field.section_meaning,
                     "\n\n| key | type | default | meaning |\n|---|---|---|---|\n");
    }
    section = field.section;
    std::string type = field.type;
    for (const std::string& spelling : field.spellings) {
      type += StrCat(&spelling == field.spellings.data() ? ": `" : ", `", spelling, "`");
    }
    const bool number = type == "integer" || type == "number" || type == "list of integers";
    if (const std::string range = RangeText(field.key.range); number && !range.empty()) type += ", " + range;
    const std::string value = field.key.presence == Presence::kRequired ? "required"
                              : field.empty                             ? ""
                                                                        : "`" + field.value + "`";
    text += StrCat("| `", field.name, "` | ", type, " | ", value, " | ", field.key.meaning, " |\n");
  }
  return text;
}

}  // namespace sgmd
