// Unix sockets at a path that nobody else can have prepared. Same rules as listen.h.
#pragma once

#include <sys/types.h>

#include "agent/service/listen_address.h"

namespace profagent::service {

struct UnixSocket {
  int fd = -1;
  dev_t file_device = 0;
  ino_t file_inode = 0;
};

// Makes and checks the folder, replaces the socket of a dead process, binds with mode 0600 and listens.
// fd < 0 and a line in `problems` when any of that is not as it must be.
[[nodiscard]] UnixSocket open_unix_socket(const Address& address, ProblemText* problems) noexcept;

// Removes the file if it still is the one that was bound.
void unlink_unix_socket(const SocketPath& path, dev_t device, ino_t inode) noexcept;

}  // namespace profagent::service
