// Words for a shell to complete, from the command line as it is declared.
#include <iostream>
#include <memory>
#include <regex>
#include <sstream>

#include "common/error/error.h"
#include "common/error/text.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

struct Word {
  std::string text, meaning;
};

std::vector<Word> VerbsOf(const CLI::App& app) {
  std::vector<Word> words;
  for (const CLI::App* verb : app.get_subcommands({})) words.push_back({verb->get_name(), verb->get_description()});
  return words;
}

// The options of a verb, long and short.
std::vector<Word> OptionsOf(const CLI::App& verb) {
  std::vector<Word> words;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back({"--" + name, option->get_description()});
    for (const std::string& name : option->get_snames()) words.push_back({"-" + name, option->get_description()});
  }
  return words;
}

// What an argument or the value of an option may be, where it is one of a few: CLI::IsMember says "{a,b}".
std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  static const std::regex braces(R"(\{([^{}]+)\})");
  std::smatch match;
  const std::string type = option.get_type_name();
  std::vector<std::string> choices;
  if (!std::regex_search(type, match, braces)) return choices;
  std::istringstream list(match[1].str());
  for (std::string choice; std::getline(list, choice, ',');) choices.push_back(choice);
  return choices;
}

std::vector<std::string> ChoicesOf(const CLI::App& verb) {
  std::vector<std::string> choices;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& choice : ChoicesOf(*option)) choices.push_back(choice);
  }
  return choices;
}

bool TakesTarget(const CLI::App& verb) { return verb.get_option_no_throw("topology") != nullptr; }

std::string TextsOf(const std::vector<Word>& words) {
  std::vector<std::string> texts;
  for (const Word& word : words) texts.push_back(word.text);
  return Joined(texts);
}

// In single quotes, for all three shells.
std::string Quoted(const std::string& text) { return "'" + std::regex_replace(text, std::regex("'"), "'\\''") + "'"; }

// Topology files, and folders on the way to one or of a run.
std::string Bash(const CLI::App& app) {
  std::string cases;
  for (const CLI::App* verb : app.get_subcommands({})) {
    cases += StrCat("    ", verb->get_name(), ") options=", Quoted(TextsOf(OptionsOf(*verb))),
                    " choices=", Quoted(Joined(ChoicesOf(*verb))), " files=", TakesTarget(*verb) ? 1 : 0, " ;;\n");
  }
  return StrCat(R"(_sgmd_launch() {
  local cur=${COMP_WORDS[COMP_CWORD]} options= choices= files=0
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W )",
                Quoted(TextsOf(VerbsOf(app)) + " --help --version"), R"( -- "$cur")
    return
  fi
  case ${COMP_WORDS[1]} in
)",
                cases, R"(  esac
  if [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    return
  fi
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur"
    ((files)) && { compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur"; })
  compopt -o filenames 2>/dev/null
}
complete -F _sgmd_launch sgmd-launch
)");
}

std::string Zsh(const CLI::App& app) {
  const auto described = [](const std::vector<Word>& words) {
    std::string text;
    for (const Word& word : words) {
      text += " " + Quoted(word.text + ":" + std::regex_replace(word.meaning, std::regex(":"), "\\:"));
    }
    return text;
  };
  std::string cases;
  for (const CLI::App* verb : app.get_subcommands({})) {
    cases += StrCat("    ", verb->get_name(), ") words_here=(", described(OptionsOf(*verb)), " ) choices=(",
                    Joined(ChoicesOf(*verb)), ") files=", TakesTarget(*verb) ? 1 : 0, " ;;\n");
  }
  return StrCat(
      "#compdef sgmd-launch\n_sgmd_launch() {\n  local -a words_here choices\n  local files=0\n"
      "  if ((CURRENT == 2)); then\n    words_here=(",
      described(VerbsOf(app)), " )\n    _describe verb words_here\n    return\n  fi\n  case $words[2] in\n", cases,
      "  esac\n  if [[ $PREFIX == -* ]]; then\n    _describe option words_here\n    return\n  fi\n"
      "  (($#choices)) && compadd -a choices\n  ((files)) && _files -g '*.toml(-.) *(-/)'\n}\n"
      "compdef _sgmd_launch sgmd-launch\n");
}

std::string Fish(const CLI::App& app) {
  std::string text = "complete -c sgmd-launch -f\n";
  for (const Word& verb : VerbsOf(app)) {
    text +=
        StrCat("complete -c sgmd-launch -n __fish_use_subcommand -a ", verb.text, " -d ", Quoted(verb.meaning), "\n");
  }
  for (const CLI::App* verb : app.get_subcommands({})) {
    const std::string line = StrCat("complete -c sgmd-launch -n '__fish_seen_subcommand_from ", verb->get_name(), "'");
    for (const Word& word : OptionsOf(*verb)) {
      const bool is_long = word.text.starts_with("--");
      text += StrCat(line, is_long ? " -l " : " -s ", word.text.substr(is_long ? 2 : 1), " -d ", Quoted(word.meaning),
                     "\n");
    }
    if (const std::string choices = Joined(ChoicesOf(*verb)); !choices.empty())
      text += StrCat(line, " -a '", choices, "'\n");
    if (TakesTarget(*verb)) text += line + " -a '(__fish_complete_suffix .toml; __fish_complete_directories)'\n";
  }
  return text;
}

}  // namespace

Verb CompletionVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "completion", "Print what makes a shell complete this command line",
                           "completion bash > ~/.local/share/bash-completion/completions/sgmd-launch\n"
                           "completion zsh > ~/.zfunc/_sgmd-launch\n"
                           "completion fish > ~/.config/fish/completions/sgmd-launch.fish");
  const auto shell = std::make_shared<std::string>();
  verb->add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return {verb, [&app, shell] {
            std::cout << (*shell == "bash" ? Bash(app) : *shell == "zsh" ? Zsh(app) : Fish(app));
            return 0;
          }};
}

}  // namespace sgmd
