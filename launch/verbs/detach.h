// A verb that goes on in the background.
#pragma once

#include <filesystem>
#include <functional>

namespace sgmd {

/// What the process in the background says to the one at the terminal.
class Detachment {
 public:
  explicit Detachment(int said) : said_(said) {}
  /// Nothing is refused any more: from here on stderr goes to the run's logs/launch.log. `head`: whether this process
  /// starts the broker.
  void Leave(const std::filesystem::path& run_folder, bool head);

 private:
  int said_;  // the end of a pipe
};

/// Runs `body` in a process of its own session, without a terminal; up to Detachment::Leave its errors are seen here.
/// Returns 0 once the run's broker answers (on a further host: once it has left), after saying how to watch and end
/// it; or the exit code of `body` where that ends before, with what it has logged.
int Detached(const std::function<int(Detachment&)>& body);

}  // namespace sgmd
