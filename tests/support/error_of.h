// What an action that must fail says.
#pragma once

#include <string>

#include "common/error/error.h"

namespace sgmd {

/// The whole text of the Error that `action` throws, with its place and hint; "no error" when it throws none.
template <typename Action>
std::string ErrorOf(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace sgmd
