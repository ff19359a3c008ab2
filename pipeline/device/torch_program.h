// Programs that compute with LibTorch.
#pragma once

#include <functional>
#include <string_view>

namespace sgmd {

/// RunGuarded (common/error) for such a program: what LibTorch throws is printed without its own stack, so that the
/// cause is the last line, and a device whose memory is used up is an Error that says how to use less.
int RunTorchProgram(std::string_view program, const std::function<int()>& body);

}  // namespace sgmd
