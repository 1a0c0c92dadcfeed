// Who holds a lock, as glibc notes it there. On our thread only; nothing faults.
#pragma once

#include <cstdint>

#include <sys/types.h>

#include "agent/safe/waits.h"

namespace profagent::service {

struct LockOwner {
  // 0: nobody, readers (who they are is not noted), or not known. That of a lock of another make is a number
  // that belongs to no thread.
  pid_t tid = 0;
  bool is_shared = false;  // between processes: it may be a thread of another one
};

// Of a lock that is waited for; nobody has what other kinds of wait wait for.
[[nodiscard]] LockOwner read_lock_owner(safe::WaitKind kind, std::uintptr_t lock);

}  // namespace profagent::service
