#include "common/failpoint/failpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "common/digest/digest.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "common/failpoint/rules.h"

namespace sgmd::failpoint {
namespace {

std::string Variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

// "teacher" means every teacher, and "generator" every rank of it.
bool Concerns(const Rule& rule, std::string_view process) {
  if (rule.process.empty() || rule.process == process) return true;
  return process.starts_with(rule.process + ".") || process.starts_with(rule.process + "/");
}

// From 0 to 1, the same for the same text.
double Draw(const std::string& text) {
  return std::ldexp(static_cast<double>(Checksum(std::as_bytes(std::span(text))) >> 11), -53);
}

int ErrnoOf(Action action) {
  switch (action) {
    case Action::kNoSpace:
      return ENOSPC;
    case Action::kIoError:
      return EIO;
    case Action::kTooManyFiles:
      return EMFILE;
    default:
      return 0;
  }
}

// Does what a place cannot do by itself; the effect where it is the place's turn.
std::optional<Effect> Do(const Effect& effect, std::size_t place) {
  switch (effect.action) {
    case Action::kCrash:
      ::kill(::getpid(), SIGKILL);
      [[fallthrough]];
    case Action::kHang:
      while (true) ::pause();
    case Action::kExit:
      ::_exit(static_cast<int>(effect.amount));
    case Action::kStop:
      ::kill(::getpid(), SIGSTOP);
      return {};
    case Action::kSleep:
      std::this_thread::sleep_for(std::chrono::milliseconds(effect.amount));
      return {};
    case Action::kError:
      throw Error(StrCat("failpoint ", kPlaces[place].name), "SGMD_FAILPOINTS");
    default:
      return effect;
  }
}

}  // namespace

namespace internal {

Rules::Rules(const std::vector<Rule>& all, std::string process, std::uint64_t seed, std::filesystem::path marks)
    : process_(std::move(process)), seed_(seed), marks_(std::move(marks)) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!Concerns(all[i], process_)) continue;
    rules_.push_back(std::make_unique<Counted>());
    rules_.back()->rule = all[i];
    rules_.back()->number = i;
  }
}

// Only the first of all that share the folder can make the mark.
bool Rules::IsFirst(const Counted& counted) const {
  if (counted.happened.exchange(true)) return false;
  if (marks_.empty()) return true;
  const int fd =
      ::open((marks_ / std::to_string(counted.number)).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

bool Rules::Happens(const Counted& counted, std::uint64_t hit) const {
  const Rule& rule = counted.rule;
  if (hit < rule.first || hit > rule.last) return false;
  if (rule.probability < 1 && Draw(StrCat(seed_, "/", process_, "/", rule.text, "/", hit)) >= rule.probability)
    return false;
  return !rule.once || IsFirst(counted);
}

std::optional<Effect> Rules::At(std::size_t place, std::string_view kind) const {
  std::optional<Effect> effect;
  for (const auto& counted : rules_) {
    const Rule& rule = counted->rule;
    if (rule.place != place || (!rule.kind.empty() && rule.kind != kind)) continue;
    const std::uint64_t hit = counted->hits.fetch_add(1) + 1;
    if (effect || !Happens(*counted, hit)) continue;
    effect = rule.effect;
    std::fprintf(stderr, "failpoint: %s at hit %llu\n", rule.text.c_str(), static_cast<unsigned long long>(hit));
  }
  return effect;
}

std::optional<Effect> SlowHit(std::size_t place, std::string_view kind) {
  const std::optional<Effect> effect = active.load(std::memory_order_acquire)->At(place, kind);
  return effect ? Do(*effect, place) : std::nullopt;
}

bool SlowFails(std::size_t place) {
  const std::optional<Effect> effect = SlowHit(place, {});
  if (effect) errno = ErrnoOf(effect->action);
  return effect.has_value();
}

}  // namespace internal

void SetProcess(std::string_view process) {
  const std::string text = Variable("SGMD_FAILPOINTS"), seed = Variable("SGMD_FAILPOINTS_SEED");
  const auto* rules = new internal::Rules(ParseRules(text), std::string(process),
                                          std::strtoull(seed.c_str(), nullptr, 10), Variable("SGMD_FAILPOINTS_MARKS"));
  internal::active.store(rules->empty() ? nullptr : rules, std::memory_order_release);
}

std::string Listing() {
  std::string text = "SGMD_FAILPOINTS=\"place=action;...\" (common/failpoint/failpoint.h has the grammar)\n";
  for (const Declared& place : kPlaces) {
    text += StrCat("\n", place.name, std::string(28 - place.name.size(), ' '), place.what, "\n", std::string(28, ' '),
                   Joined(SpellActions(place.actions), ", "), "\n");
  }
  return text;
}

}  // namespace sgmd::failpoint
