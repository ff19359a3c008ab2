#include "common/config/toml_reader.h"

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

struct Source {
  std::filesystem::path path;
  std::vector<std::string> lines;
  std::set<std::string> overrides;  // "--set section.key=value", the source path of their nodes
  toml::table table;
};

// "path:line:col: message", the line and a caret below the column.
[[noreturn]] void FailAt(const Source& source, const toml::source_region& region, const std::string& message,
                         const std::string& hint) {
  const auto override_text = region.path ? source.overrides.find(*region.path) : source.overrides.end();
  if (override_text != source.overrides.end()) throw Error(message, *override_text, hint);
  const toml::source_position at = region.begin;
  std::string text = message;
  if (at.line >= 1 && at.line <= source.lines.size()) {
    const std::string& line = source.lines[at.line - 1];
    const std::string number = std::to_string(at.line);
    text += StrCat("\n  ", number, " | ", line, "\n  ", std::string(number.size(), ' '), " | ",
                   std::string(at.column > 0 ? at.column - 1 : 0, ' '), "^");
  }
  throw Error(text, StrCat(source.path.string(), ":", at.line, ":", at.column), hint);
}

bool Inside(double value, const NumberRange& range) {
  return (range.low_open ? value > range.low : value >= range.low) &&
         (range.high_open ? value < range.high : value <= range.high);
}

// One override as a table of one key. A value that is no TOML is taken as a text: device=cuda:0.
toml::table ParseOverride(const std::string& text) {
  const std::string where = "--set " + text;
  const auto equals = text.find('=');
  const auto dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals) {
    throw Error("this does not have the form section.key=value", where, "such as --set experiment.steps=200");
  }
  const std::string key = text.substr(0, equals), value = text.substr(equals + 1);
  try {
    return toml::parse(text, where);
  } catch (const toml::parse_error&) {
  }
  try {
    return toml::parse(StrCat(key, " = \"\"\"", value, "\"\"\""), where);
  } catch (const toml::parse_error& error) {
    throw Error(std::string(error.description()), where, "such as --set experiment.steps=200");
  }
}

// Moves, because a copied node forgets where it is from.
void Merge(toml::table&& from, toml::table& into) {
  for (auto&& [key, node] : from) {
    toml::node* there = into.get(key.str());
    if (node.is_table() && there != nullptr && there->is_table()) {
      Merge(std::move(*node.as_table()), *there->as_table());
    } else {
      into.insert_or_assign(key, std::move(node));
    }
  }
}

}  // namespace

struct TomlTable::Node {
  std::shared_ptr<const Source> source;
  const toml::table* table = nullptr;  // null for an absent table
  std::string name;                    // dotted, empty for the root
  toml::source_region position{{1, 1}, {1, 1}, nullptr};
  std::set<std::string, std::less<>> known;
  std::vector<std::shared_ptr<Node>> children;

  const toml::node* Find(std::string_view key) {
    known.emplace(key);
    return table == nullptr ? nullptr : table->get(key);
  }

  [[noreturn]] void FailAtKey(std::string_view key, const std::string& message, const std::string& hint) const {
    const toml::node* found = table == nullptr ? nullptr : table->get(key);
    FailAt(*source, found != nullptr ? found->source() : position, message, hint);
  }

  // The key as a T; nothing when absent and there is a fallback.
  template <typename T>
  std::optional<T> Read(std::string_view key, const char* type, bool optional) {
    const toml::node* found = Find(key);
    if (found == nullptr) {
      if (optional) return {};
      FailAtKey(key, StrCat("key \"", key, "\" is missing", name.empty() ? "" : " in [" + name + "]"),
                StrCat("add ", key, " = <", type, ">"));
    }
    const std::optional<T> value = found->value_exact<T>();
    if (!value) FailAtKey(key, StrCat("\"", key, "\" must be ", type), {});
    return value;
  }
};

TomlTable::TomlTable(std::shared_ptr<Node> node) : node_(std::move(node)) {}

std::string TomlTable::Text(std::string_view key, std::optional<std::string> fallback) {
  return node_->Read<std::string>(key, "text in quotes", fallback.has_value()).value_or(fallback.value_or(""));
}

std::string TomlTable::Choice(std::string_view key, const std::vector<std::string>& allowed,
                              std::optional<std::string> fallback) {
  const std::string value = Text(key, std::move(fallback));
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
    Fail(key, StrCat("\"", key, "\" is \"", value, "\""), "one of: " + Joined(allowed, ", "));
  }
  return value;
}

std::int64_t TomlTable::Integer(std::string_view key, NumberRange range, std::optional<std::int64_t> fallback) {
  const auto read = node_->Read<std::int64_t>(key, "an integer", fallback.has_value());
  const std::int64_t value = read ? *read : *fallback;
  if (!Inside(static_cast<double>(value), range))
    Fail(key, StrCat("\"", key, "\" is out of range"), "allowed: " + RangeText(range));
  return value;
}

double TomlTable::Real(std::string_view key, NumberRange range, std::optional<double> fallback) {
  const toml::node* found = node_->Find(key);
  double value = 0;
  if (found != nullptr && found->is_integer()) {
    value = static_cast<double>(*found->value<std::int64_t>());
  } else {
    const auto read = node_->Read<double>(key, "a number", fallback.has_value());
    value = read ? *read : *fallback;
  }
  if (!Inside(value, range)) Fail(key, StrCat("\"", key, "\" is out of range"), "allowed: " + RangeText(range));
  return value;
}

bool TomlTable::Boolean(std::string_view key, std::optional<bool> fallback) {
  return node_->Read<bool>(key, "true or false", fallback.has_value()).value_or(fallback.value_or(false));
}

std::vector<std::int64_t> TomlTable::Integers(std::string_view key, NumberRange range,
                                              std::optional<std::vector<std::int64_t>> fallback) {
  const toml::node* found = node_->Find(key);
  if (found == nullptr && fallback) return *fallback;
  if (found == nullptr)
    Fail(key, StrCat("key \"", key, "\" is missing in [", node_->name, "]"), StrCat("add ", key, " = [...]"));
  std::vector<std::int64_t> values;
  if (!found->is_array()) Fail(key, StrCat("\"", key, "\" must be a list of integers"));
  for (const toml::node& item : *found->as_array()) {
    const auto value = item.value_exact<std::int64_t>();
    if (!value) FailAt(*node_->source, item.source(), StrCat("\"", key, "\" must be a list of integers"), {});
    if (!Inside(static_cast<double>(*value), range)) {
      FailAt(*node_->source, item.source(), StrCat("an entry of \"", key, "\" is out of range"),
             "allowed: " + RangeText(range));
    }
    values.push_back(*value);
  }
  return values;
}

std::vector<std::string> TomlTable::Texts(std::string_view key, std::optional<std::vector<std::string>> fallback) {
  const toml::node* found = node_->Find(key);
  if (found == nullptr && fallback) return *fallback;
  if (found == nullptr)
    Fail(key, StrCat("key \"", key, "\" is missing in [", node_->name, "]"), StrCat("add ", key, " = [\"...\"]"));
  if (!found->is_array()) Fail(key, StrCat("\"", key, "\" must be a list of texts in quotes"));
  std::vector<std::string> values;
  for (const toml::node& item : *found->as_array()) {
    const auto value = item.value_exact<std::string>();
    if (!value) FailAt(*node_->source, item.source(), StrCat("\"", key, "\" must be a list of texts in quotes"), {});
    values.push_back(*value);
  }
  return values;
}

namespace {

// Expands the environment variable that `text` begins with, if it does. Resolved settings hold absolute paths, which
// never do.
std::filesystem::path WithVariable(const TomlTable& table, std::string_view key, const std::string& text) {
  static const std::regex pattern(R"(\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})(.*))");
  std::smatch match;
  if (!text.starts_with('$')) return text;
  if (!std::regex_match(text, match, pattern)) {
    table.Fail(key, StrCat("\"", key, "\" begins with $ but names no variable"),
               "$NAME, ${NAME} or ${NAME:-fallback}, and the rest of the path");
  }
  const std::string name = match[1].matched ? match[1].str() : match[2].str(), rest = match[4].str();
  const char* value = std::getenv(name.c_str());
  if (value != nullptr && *value != '\0') return std::filesystem::absolute(value).string() + rest;
  if (match[3].matched) return match[3].str() + rest;
  table.Fail(key, StrCat("environment variable ", name, " is not set"),
             StrCat("export ", name, "=<folder>: \"", key, "\" is ", name, rest));
}

}  // namespace

std::filesystem::path TomlTable::Path(std::string_view key, std::optional<std::filesystem::path> fallback) {
  const auto read = node_->Read<std::string>(key, "a path in quotes", fallback.has_value());
  const std::filesystem::path value = read ? WithVariable(*this, key, *read) : *fallback;
  if (value.empty()) return value;
  return std::filesystem::weakly_canonical(node_->source->path.parent_path() / value);
}

bool TomlTable::Has(std::string_view key) const { return node_->table != nullptr && node_->table->contains(key); }

std::vector<std::string> TomlTable::Keys() const {
  std::vector<std::string> keys;
  if (node_->table == nullptr) return keys;
  for (const auto& [key, value] : *node_->table) keys.emplace_back(key.str());
  return keys;
}

TomlTable TomlTable::Table(std::string_view key) {
  const toml::node* found = node_->Find(key);
  if (found != nullptr && !found->is_table()) Fail(key, StrCat("\"", key, "\" must be a table, [", key, "]"));
  const std::string name = node_->name.empty() ? std::string(key) : StrCat(node_->name, ".", key);
  for (const auto& child : node_->children) {
    if (child->name == name) return TomlTable(child);
  }
  auto child = std::make_shared<Node>();
  child->source = node_->source;
  child->name = name;
  child->position = node_->position;
  if (found != nullptr) {
    child->table = found->as_table();
    child->position = found->source();
  }
  node_->children.push_back(child);
  return TomlTable(child);
}

void TomlTable::Finish() {
  for (const auto& child : node_->children) TomlTable(child).Finish();
  if (node_->table == nullptr) return;
  for (const auto& [key, value] : *node_->table) {
    if (node_->known.contains(key.str())) continue;
    const std::string hint =
        NearestHint(std::string(key.str()), std::vector<std::string>(node_->known.begin(), node_->known.end()));
    FailAt(*node_->source, key.source(), StrCat("unknown key \"", key.str(), "\""), hint);
  }
}

void TomlTable::Fail(std::string_view key, std::string message, std::string hint) const {
  node_->FailAtKey(key, message, hint);
}

TomlFile::TomlFile(TomlTable root) : root_(std::make_shared<TomlTable>(std::move(root))) {}

TomlFile TomlFile::Open(const std::filesystem::path& path, const TomlOverrides& overrides) {
  auto source = std::make_shared<Source>();
  source->path = std::filesystem::absolute(path);
  const std::string text = ReadFile(path);
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) source->lines.push_back(line);
  try {
    source->table = toml::parse(text, source->path.string());
  } catch (const toml::parse_error& error) {
    FailAt(*source, error.source(), std::string(error.description()), {});
  }
  for (const std::string& text : overrides) {
    source->overrides.insert("--set " + text);
    Merge(ParseOverride(text), source->table);
  }
  auto node = std::make_shared<TomlTable::Node>();
  node->source = source;
  node->table = &source->table;
  return TomlFile(TomlTable(node));
}

TomlTable TomlFile::root() const { return *root_; }

}  // namespace sgmd
