#include "launch/run/replay_check.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

// What a program writes to stdout. Throws Error when it fails; what it says about that is on stderr already.
std::string OutputOf(std::vector<std::string> command) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) ThrowErrno("cannot make a pipe for", command.front());
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) ThrowErrno("cannot fork for", command.front());
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::execv(words[0], words.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string output;
  char block[4096];
  for (ssize_t size = 0; (size = ::read(ends[0], block, sizeof block)) > 0;)
    output.append(block, static_cast<std::size_t>(size));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error("the score cache cannot be looked through for a replay", command.front(), "the lines above say why");
  return output;
}

}  // namespace

std::int64_t EndOfRecord(const LaunchPlan& plan, const std::filesystem::path& programs) {
  const std::string text =
      OutputOf({(programs / "sgmd-broker").string(), "--check-replay", "--run", plan.topology.run.folder.string()});
  const auto check = nlohmann::json::parse(text);
  const std::int64_t complete = check.at("complete"), recorded = check.at("recorded");
  if (recorded == 0 || complete == plan.experiment.steps) return 0;
  if (complete >= recorded) return complete;
  const std::int64_t answers = check.at("answers"), there = check.at("there");
  throw Error(StrCat("the record of this run has holes: of ", answers, " answers ", answers - there,
                     " are missing, the first at step ", complete, "; ", check.at("evicted").get<std::int64_t>(),
                     " were evicted, ", check.at("lost").get<std::int64_t>(), " lost"),
              plan.topology.cache.folder.string(),
              "`up` with teachers fills them in; a larger [cache] limit_gib keeps more");
}

}  // namespace sgmd
