#include "nodes/broker/routes.h"

namespace sgmd {
namespace {

using enum wire::Kind;
constexpr auto kData = Socket::kData, kControl = Socket::kControl;

constexpr Route kRoutes[] = {
    {kData, Hello, "any", ""},
    {kData, Sample, "generator", ""},
    {kData, AnchorRequest, "generator", ""},
    {kData, InnerSample, "generator", "fake_score"},
    {kData, CheckpointOrder, "generator", "fake_score"},
    {kData, StudentWeights, "generator", "fake_score"},
    {kData, Finished, "generator", ""},
    {kData, Gradient, "fake_score", "generator"},
    {kData, CheckpointPart, "fake_score", ""},  // to generator, once the gate opens
    {kData, Credit, "teacher", ""},
    {kData, Score, "teacher", ""},
    {kData, Anchor, "teacher", ""},
    {kData, Leave, "teacher", ""},

    {kControl, Hello, "any", ""},
    {kControl, Beat, "generator", ""},
    {kControl, Beat, "fake_score", ""},
    {kControl, Beat, "teacher", ""},
    {kControl, StatusRequest, "launcher", ""},
    {kControl, StatusRequest, "client", ""},
    {kControl, Drain, "launcher", ""},
    {kControl, Drain, "client", ""},
    {kControl, Scale, "client", ""},
    {kControl, NodeExited, "launcher", ""},
    {kControl, RoleFailed, "launcher", "launcher"},
};

}  // namespace

std::string_view RoleOf(std::string_view node) { return node.substr(0, node.find('.')); }

const Route* RouteOf(Socket socket, wire::Kind kind, std::string_view sender) {
  const std::string_view role = RoleOf(sender);
  for (const Route& route : kRoutes) {
    const std::string_view from = route.from;
    if (route.socket == socket && route.kind == kind && (from == "any" || from == role)) return &route;
  }
  return nullptr;
}

}  // namespace sgmd
