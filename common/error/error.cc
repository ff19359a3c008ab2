#include "common/error/error.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

namespace sgmd {
namespace {

std::string Render(const std::string& message, const std::string& where, const std::string& hint) {
  std::string text = where.empty() ? message : where + ": " + message;
  if (!hint.empty()) text += "\n  hint: " + hint;
  return text;
}

}  // namespace

Error::Error(std::string message, std::string where, std::string hint)
    : std::runtime_error(Render(message, where, hint)),
      message_(std::move(message)),
      where_(std::move(where)),
      hint_(std::move(hint)) {}

void ThrowErrno(std::string_view action, std::string where, std::string hint) {
  const int code = errno;
  throw Error(StrCat(action, ": ", std::strerror(code)), std::move(where), std::move(hint));
}

int RunGuarded(std::string_view program, const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    std::cerr << program << ": error: " << error.what() << std::endl;
    return 1;
  } catch (const std::filesystem::filesystem_error& error) {
    std::cerr << program << ": error: " << error.path1().string() << ": " << error.code().message() << std::endl;
    return 1;
  } catch (const std::exception& error) {
    std::cerr << program << ": internal error: " << error.what() << std::endl;
    return 70;
  }
}

}  // namespace sgmd
