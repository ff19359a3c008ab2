#include "common/command_line/command_line.h"

#include "common/error/error.h"
#include "common/error/text.h"

namespace sgmd {
namespace {

void RequireVerb(const CLI::App& app, int argc, char** argv, std::string_view program) {
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands({})) verbs.push_back(verb->get_name());
  if (verbs.empty()) return;
  if (argc < 2) throw Error(StrCat(program, " needs to know what to do"), {}, "one of: " + Joined(verbs, ", "));
  if (argv[1][0] == '-' || std::ranges::find(verbs, argv[1]) != verbs.end()) return;
  throw Error(StrCat("\"", argv[1], "\" is nothing that ", program, " does"), {}, NearestHint(argv[1], verbs));
}

// CLI11's message as a sentence, where it is none.
std::string Sentence(const CLI::ParseError& error) {
  const std::string text = error.what();
  if (const std::size_t at = text.find(": At Most 1 required"); at != std::string::npos)
    return text.substr(0, at) + " is given more than once";
  constexpr std::string_view kConversion = "Could not convert: ";
  if (text.starts_with(kConversion)) return "the value cannot be read: " + text.substr(kConversion.size());
  return text;
}

// How to ask for help where the mistake was made.
std::string HelpHint(const CLI::App& app, std::string_view program) {
  std::string hint{program};
  for (const CLI::App* verb : app.get_subcommands()) hint += " " + verb->get_name();
  return hint + " --help shows what there is";
}

}  // namespace

std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv, std::string_view program) {
  std::optional<int> code;
  const int guarded = RunGuarded(program, [&] {
    app.set_version_flag("--version", "sgmd " SGMD_VERSION);
    RequireVerb(app, argc, argv, program);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() != 0) throw Error(Sentence(error), {}, HelpHint(app, program));
      code = app.exit(error);
    }
    return 0;
  });
  return guarded != 0 ? guarded : code;
}

CLI::Validator NumberIn(double low, double high) {
  const std::string range = StrCat("in [", low, ", ", high, "]");
  return {[=](std::string& text) {
            char* end = nullptr;
            const double value = std::strtod(text.c_str(), &end);
            const bool whole = !text.empty() && *end == '\0';
            return whole && value >= low && value <= high ? std::string() : "\"" + text + "\" is not a number " + range;
          },
          range};
}

CLI::Validator Seed() {
  return {[](std::string& text) {
            const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
            return digits && std::strtod(text.c_str(), nullptr) < 0x1p63
                       ? std::string()
                       : "\"" + text + "\" is not a whole number in [0, 2^63)";
          },
          ""};
}

}  // namespace sgmd
