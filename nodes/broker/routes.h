// Who may send what to whom: a table, by which every message is admitted.
#pragma once

#include <string>
#include <string_view>

#include "common/transport/envelope.h"

namespace sgmd {

/// The two sockets that the broker binds.
enum class Socket { kData, kControl };

/// One row. `from` is a role: "teacher" stands for teacher.N, "launcher" for launcher and launcher.HOST, "client" for
/// whoever asks or orders by hand, "any" for all.
struct Route {
  Socket socket;
  wire::Kind kind;
  const char* from;
  const char* to;  // the node that it is passed on to as it is; empty: the broker deals with it
};

/// The role in a node's name: what is before its first dot.
std::string_view RoleOf(std::string_view node);

/// The row of a message, by socket, kind and the name of its sender. Null: nobody of that role sends it there.
const Route* RouteOf(Socket socket, wire::Kind kind, std::string_view sender);

}  // namespace sgmd
