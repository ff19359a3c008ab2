#include <algorithm>
#include <charconv>
#include <cmath>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/failpoint/rules.h"
#include "schemas/wire_generated.h"

namespace sgmd::failpoint {
namespace {

enum class Argument { kNone, kMilliseconds, kCode };

struct Spelling {
  Action action;
  std::string_view name;
  unsigned group;
  Argument argument = Argument::kNone;
};

constexpr Spelling kSpellings[] = {
    {Action::kCrash, "crash", kProcess},
    {Action::kExit, "exit", kProcess, Argument::kCode},
    {Action::kHang, "hang", kProcess},
    {Action::kStop, "stop", kProcess},
    {Action::kSleep, "sleep", kProcess, Argument::kMilliseconds},
    {Action::kError, "error", kProcess},
    {Action::kNoSpace, "enospc", kErrno},
    {Action::kIoError, "eio", kErrno},
    {Action::kTooManyFiles, "emfile", kErrno},
    {Action::kDrop, "drop", kMessage},
    {Action::kDouble, "double", kMessage},
    {Action::kDelay, "delay", kMessage, Argument::kMilliseconds},
    {Action::kCorrupt, "corrupt", kMessage},
    {Action::kReorder, "reorder", kMessage},
    {Action::kNan, "nan", kValue},
};

[[noreturn]] void Refuse(const std::string& what, const std::string& rule, const std::string& hint = {}) {
  throw Error("SGMD_FAILPOINTS: " + what, rule, hint.empty() ? "sgmd-launch failpoints lists all of them" : hint);
}

// Cuts what stands behind the first `mark` off `text`.
std::optional<std::string> CutAfter(std::string& text, char mark) {
  const std::size_t at = text.find(mark);
  if (at == std::string::npos) return {};
  std::string tail = text.substr(at + 1);
  text.resize(at);
  return tail;
}

template <typename Number>
Number NumberOf(std::string_view text, const char* what, const std::string& rule) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) Refuse(StrCat("\"", text, "\" is no ", what), rule);
  return number;
}

void ReadPlace(std::string name, Rule& rule) {
  const auto is_known = [&](const std::string& text) {
    const auto* found = std::ranges::find(kPlaces, text, &Declared::name);
    rule.place = static_cast<std::size_t>(found - kPlaces.begin());
    return found != kPlaces.end();
  };
  if (is_known(name)) return;
  std::string place = name;
  if (const std::size_t dot = name.rfind('.'); dot != std::string::npos && is_known(name.substr(0, dot))) {
    rule.kind = name.substr(dot + 1);
    place = name.substr(0, dot);
  } else {
    std::vector<std::string> known;
    for (const Declared& declared : kPlaces) known.emplace_back(declared.name);
    Refuse("no failpoint is called \"" + name + "\"", rule.text, NearestHint(name, known));
  }
  if ((kPlaces[rule.place].actions & kMessage) == 0) Refuse("no messages pass at " + place, rule.text);
  std::vector<std::string> kinds;
  for (const wire::Kind kind : wire::EnumValuesKind()) kinds.emplace_back(wire::EnumNameKind(kind));
  if (std::ranges::find(kinds, rule.kind) == kinds.end())
    Refuse("no kind of message is called \"" + rule.kind + "\"", rule.text, NearestHint(rule.kind, kinds));
}

std::int64_t ArgumentOf(const Spelling& action, std::string argument, const std::string& rule) {
  if (action.argument == Argument::kMilliseconds && argument.ends_with("ms")) argument.resize(argument.size() - 2);
  const auto number = NumberOf<std::int64_t>(argument, "number of milliseconds, or exit code", rule);
  const std::int64_t limit = action.argument == Argument::kCode ? 255 : 3'600'000;
  if (number < 0 || number > limit) Refuse(StrCat("the argument is over ", limit, " or negative"), rule);
  return number;
}

void ReadAction(std::string text, Rule& rule) {
  std::optional<std::string> argument = CutAfter(text, '(');
  if (argument && !argument->ends_with(')')) Refuse("a bracket is not closed", rule.text);
  if (argument) argument->pop_back();
  const Declared& place = kPlaces[rule.place];
  const auto* found = std::ranges::find(kSpellings, text, &Spelling::name);
  if (found == std::end(kSpellings) || (found->group & place.actions) == 0)
    Refuse(StrCat("\"", text, "\" is nothing that can happen at ", place.name), rule.text,
           NearestHint(text, SpellActions(place.actions)));
  const bool wants = found->argument != Argument::kNone;
  if (wants != argument.has_value())
    Refuse(text + (wants ? " needs a number in brackets" : " takes no number"), rule.text);
  rule.effect = {found->action, wants ? ArgumentOf(*found, *argument, rule.text) : 0};
}

void ReadHits(std::string text, Rule& rule) {
  const bool open = text.ends_with('+');
  if (open) text.pop_back();
  rule.first = NumberOf<std::uint64_t>(text, "number of a hit", rule.text);
  if (rule.first == 0) Refuse("hits are counted from 1", rule.text);
  if (!open) rule.last = rule.first;
}

void ReadProbability(std::string text, Rule& rule) {
  if (!text.ends_with('%')) Refuse("a probability ends with %", rule.text);
  text.pop_back();
  rule.probability = NumberOf<double>(text, "probability", rule.text) / 100;
  if (!(rule.probability >= 0 && rule.probability <= 1)) Refuse("a probability is from 0 % to 100 %", rule.text);
}

Rule ParseRule(const std::string& text) {
  Rule rule;
  rule.text = text;
  std::string place = text;
  std::optional<std::string> action = CutAfter(place, '=');
  if (!action) Refuse("a rule is place=action", text);
  if (std::optional<std::string> process = CutAfter(place, '[')) {
    if (!process->ends_with(']') || process->size() == 1) Refuse("a process stands in [brackets]", text);
    rule.process = process->substr(0, process->size() - 1);
  }
  ReadPlace(place, rule);
  rule.once = action->ends_with('!');
  if (rule.once) action->pop_back();
  if (const auto hits = CutAfter(*action, '@')) ReadHits(*hits, rule);
  if (const auto probability = CutAfter(*action, ':')) ReadProbability(*probability, rule);
  ReadAction(*action, rule);
  return rule;
}

}  // namespace

std::string Spell(Action action) { return std::string(std::ranges::find(kSpellings, action, &Spelling::action)->name); }

std::vector<std::string> SpellActions(unsigned actions) {
  std::vector<std::string> names;
  for (const Spelling& spelling : kSpellings) {
    if ((spelling.group & actions) != 0) names.emplace_back(spelling.name);
  }
  return names;
}

std::vector<Rule> ParseRules(std::string_view text) {
  std::vector<Rule> rules;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(';'), text.size());
    if (end > 0) rules.push_back(ParseRule(std::string(text.substr(0, end))));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return rules;
}

}  // namespace sgmd::failpoint
