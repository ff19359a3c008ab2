// One table of fields for a settings struct. Reading, writing, identity and the printed reference walk the same table,
// so that a key's name, meaning, range and default are each said once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace sgmd {

/// Allowed values: closed at both ends unless an end is open.
struct NumberRange {
  double low, high;
  bool low_open = false, high_open = false;
};

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr NumberRange kPositive{0, kInfinity, true, true};
inline constexpr NumberRange kNotNegative{0, kInfinity, false, true};
inline constexpr NumberRange kCount{1, 1e15};
inline constexpr NumberRange kCountOrZero{0, 1e15};
inline constexpr NumberRange kOpenUnit{0, 1, true, true};

enum class Presence { kOptional, kRequired };
/// Whether a setting can change the weights of a strict run, and so belongs to its identity.
enum class Decides { kWeights, kNothing };

/// One key of a section.
struct Key {
  const char* name;
  const char* meaning;                       // for people, with units
  NumberRange range{-kInfinity, kInfinity};  // of a number, or of each entry of a list of numbers
  Presence presence = Presence::kOptional;   // an optional key that is absent keeps the field's value
  Decides decides = Decides::kWeights;
};

/// What is done with each field. A table calls Section, then Field for each of its keys, section by section.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;

  /// `name` is dotted, such as "optimizer.generator".
  virtual void Section(const char* name, const char* meaning) = 0;
  virtual void Field(const Key& key, std::string& value) = 0;
  virtual void Field(const Key& key, std::int64_t& value) = 0;
  virtual void Field(const Key& key, double& value) = 0;
  virtual void Field(const Key& key, bool& value) = 0;
  virtual void Field(const Key& key, std::filesystem::path& value) = 0;
  virtual void Field(const Key& key, std::vector<std::int64_t>& value) = 0;
  virtual void Field(const Key& key, std::vector<std::string>& value) = 0;
  /// A whole section whose keys are free, each a text; `key` stands for any of them.
  virtual void Field(const Key& key, std::map<std::string, std::string>& values) = 0;

  /// An enum with SpellingsOf.
  template <typename Enum>
  requires std::is_enum_v<Enum>
  void Field(const Key& key, Enum& value) {
    auto index = static_cast<std::size_t>(value);
    Choice(key, SpellingsOf(value), index);
    value = static_cast<Enum>(index);
  }

  /// A default that depends on fields before it: a reader runs `set` before it reads the next field.
  virtual void Default(const std::function<void()>&) {}

 protected:
  virtual void Choice(const Key& key, std::span<const char* const> spellings, std::size_t& index) = 0;
};

/// "[0, 1)"; an end at infinity is written as "> 0", ">= 0"; empty where everything is allowed.
std::string RangeText(const NumberRange& range);

}  // namespace sgmd
