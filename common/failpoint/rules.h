// What SGMD_FAILPOINTS says (failpoint.h states the grammar).
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/failpoint/failpoint.h"

namespace sgmd::failpoint {

struct Rule {
  std::string text;  // as it was given
  std::size_t place = 0;
  std::string kind, process;  // empty: any
  Effect effect{};
  double probability = 1;
  std::uint64_t first = 1, last = ~std::uint64_t{0};  // hits at which it may happen
  bool once = false;
};

/// Throws Error naming the rule, and the nearest name where one is not known.
std::vector<Rule> ParseRules(std::string_view text);

/// "crash", and those that `actions` of places.h allow, with their arguments.
std::string Spell(Action action);
std::vector<std::string> SpellActions(unsigned actions);

namespace internal {

/// The rules that concern one process, with their counts. Threads may call it at the same time.
class Rules {
 public:
  /// `marks`: folder of the marks of rules that happen once in all; may be empty.
  Rules(const std::vector<Rule>& all, std::string process, std::uint64_t seed, std::filesystem::path marks);

  bool empty() const { return rules_.empty(); }
  /// What happens at this hit; it is written to stderr.
  std::optional<Effect> At(std::size_t place, std::string_view kind) const;

 private:
  struct Counted {
    Rule rule;
    std::size_t number = 0;  // in SGMD_FAILPOINTS
    mutable std::atomic<std::uint64_t> hits{0};
    mutable std::atomic<bool> happened{false};
  };
  bool Happens(const Counted& counted, std::uint64_t hit) const;
  bool IsFirst(const Counted& counted) const;

  std::vector<std::unique_ptr<Counted>> rules_;
  std::string process_;
  std::uint64_t seed_;
  std::filesystem::path marks_;
};

}  // namespace internal

}  // namespace sgmd::failpoint
