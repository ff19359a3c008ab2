// The one exception type of sgmd: an error that a person can act on.
#pragma once

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sgmd {

/// Joins its arguments with operator<<.
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// What happened, where (file, file:line:col, endpoint, tensor name; may be empty) and what to do about it (may be
/// empty). what() is all three on separate lines.
class Error : public std::runtime_error {
 public:
  explicit Error(std::string message, std::string where = {}, std::string hint = {});

  const std::string& message() const { return message_; }
  const std::string& where() const { return where_; }
  const std::string& hint() const { return hint_; }

 private:
  std::string message_, where_, hint_;
};

/// Throws Error with the text of errno, such as "cannot open: No such file or directory".
[[noreturn]] void ThrowErrno(std::string_view action, std::string where, std::string hint = {});

/// Exit code of a trained role that cannot go on from its weights and asks for the last checkpoint.
inline constexpr int kExitRollBack = 3;

/// Exit code of a rank that has lost another one of its group.
inline constexpr int kExitGroupLost = 4;

/// Runs the body of a program and turns what escapes into an exit code: the body's own value, 1 after an Error (printed
/// to stderr as "program: error: ..." with where and hint), 70 after any other exception.
int RunGuarded(std::string_view program, const std::function<int()>& body);

}  // namespace sgmd
