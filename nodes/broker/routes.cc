#include "nodes/broker/routes.h"

#include "common/config/role.h"

namespace sgmd {
namespace {

using enum wire::Kind;
constexpr auto kData = Socket::kData, kControl = Socket::kControl;

constexpr const char *kGenerator = Spell(Role::kGenerator), *kFakeScore = Spell(Role::kFakeScore),
                     *kTeacher = Spell(Role::kTeacher), *kLauncher = Spell(Role::kLauncher);

constexpr Route kRoutes[] = {
    {kData, Hello, "any", ""},
    {kData, Sample, kGenerator, ""},
    {kData, AnchorRequest, kGenerator, ""},
    {kData, InnerSample, kGenerator, kFakeScore},
    {kData, CheckpointOrder, kGenerator, kFakeScore},
    {kData, StudentWeights, kGenerator, kFakeScore},
    {kData, Finished, kGenerator, ""},
    {kData, Gradient, kFakeScore, kGenerator},
    {kData, CheckpointPart, kFakeScore, ""},  // to generator, once the gate opens
    {kData, Credit, kTeacher, ""},
    {kData, Score, kTeacher, ""},
    {kData, Anchor, kTeacher, ""},
    {kData, Leave, kTeacher, ""},

    {kControl, Hello, kLauncher, ""},
    {kControl, Hello, "client", ""},
    {kControl, Beat, kGenerator, ""},
    {kControl, Beat, kFakeScore, ""},
    {kControl, Beat, kTeacher, ""},
    {kControl, StatusRequest, kLauncher, ""},
    {kControl, StatusRequest, "client", ""},
    {kControl, Drain, kLauncher, ""},
    {kControl, Drain, "client", ""},
    {kControl, Scale, "client", ""},
    {kControl, NodeExited, kLauncher, ""},
    {kControl, RoleFailed, kLauncher, kLauncher},
};

}  // namespace

std::string_view RoleOf(std::string_view node) { return node.substr(0, node.find_first_of("./")); }

const Route* RouteOf(Socket socket, wire::Kind kind, std::string_view sender) {
  const std::string_view role = RoleOf(sender);
  for (const Route& route : kRoutes) {
    const std::string_view from = route.from;
    if (route.socket == socket && route.kind == kind && (from == "any" || from == role)) return &route;
  }
  return nullptr;
}

}  // namespace sgmd
