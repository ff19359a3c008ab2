// Showing what the processes of a run have written.
#include <unistd.h>

#include <ctime>
#include <iostream>
#include <memory>
#include <sstream>
#include <thread>

#include "common/error/error.h"
#include "launch/logs/log_follower.h"
#include "launch/logs/log_query.h"
#include "launch/run/console.h"
#include "launch/run/run_control.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{200};
constexpr std::size_t kEntries = 40;

struct LogsOptions {
  std::filesystem::path target;
  std::string process, since, grep;
  std::optional<std::size_t> count;
  bool follow = false;
};

LogQuery QueryOf(const LogsOptions& o) {
  LogQuery query;
  query.process = o.process;
  query.count = o.count;
  if (!o.since.empty()) query.since = SinceTime(o.since, std::time(nullptr));
  if (!o.count && o.since.empty()) query.count = kEntries;
  if (o.grep.empty()) return query;
  try {
    query.grep = std::regex(o.grep);
  } catch (const std::regex_error&) {
    throw Error("\"" + o.grep + "\" is no regular expression", "--grep", "ECMAScript's, such as 'step 1[0-9]+|error'");
  }
  return query;
}

// Lines of several processes have their names before them.
void Print(const std::vector<LogEntry>& entries, bool named) {
  const bool colour = ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  for (const LogEntry& entry : entries) {
    std::istringstream lines(entry.text);
    for (std::string line; std::getline(lines, line);) {
      std::cout << (named ? ProcessPrefix(entry.process, colour) : "") << line << "\n";
    }
  }
  std::cout << std::flush;
}

int Logs(const LogsOptions& o) {
  const auto folder = RunFolder{FindRunFolder(o.target)}.Logs();
  const LogQuery query = QueryOf(o);
  const LogTail tail = NewestEntries(LogsOf(folder, query), query);
  const bool named = o.process.empty();
  Print(tail.entries, named);
  if (!o.follow) return 0;
  LogFollower follower(folder, query, tail.ends);
  while (std::cout) {
    Print(follower.Poll(), named);
    std::this_thread::sleep_for(kPoll);
  }
  return 0;
}

}  // namespace

Verb LogsVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "logs", "Show the processes' logs, merged by time",
                           "logs runs/demo -n 100\n"
                           "logs runs/demo generator -f\n"
                           "logs runs/demo --since 10m --grep 'W |E '");
  const auto o = std::make_shared<LogsOptions>();
  AddTarget(*verb, o->target);
  verb->add_option("process", o->process,
                   "broker, generator, fake_score, teacher.N, evaluator or launch (default: all)");
  verb->add_option(
      "-n,--lines", o->count,
      "How many of the newest lines; what follows a line without a time of its own belongs to it (default: "
      "40, all with --since)");
  verb->add_option("--since", o->since,
                   "From then on: 45s, 10m, 2h or 3d ago, 21:03, 2026-11-24, \"2026-11-24 21:03\"");
  verb->add_option("--grep", o->grep, "Only lines in which this regular expression is found");
  verb->add_flag("-f,--follow", o->follow, "Go on as they grow");
  return {verb, [o] { return Logs(*o); }};
}

}  // namespace sgmd
