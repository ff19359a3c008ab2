#include "launch/verbs/verb_words.h"

#include <sstream>

namespace sgmd {

CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& help, const std::string& examples) {
  CLI::App* verb = app.add_subcommand(name, help);
  std::string footer = "Examples:";
  std::istringstream lines(examples);
  for (std::string line; std::getline(lines, line);) footer += "\n  sgmd-launch " + line;
  verb->footer(footer);
  return verb;
}

void AddTarget(CLI::App& verb, std::filesystem::path& target) {
  verb.add_option("topology", target, "Topology file, or the folder of a run")->required()->check(CLI::ExistingPath);
}

}  // namespace sgmd
