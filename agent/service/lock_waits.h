// Which threads are blocked for something that another thread has: a mutex, a read-write lock that is being
// written, or the end of that thread. On our thread only; no thread is disturbed, and nothing faults.
//
// A thread's wait site says what it waits for, and the kernel that it is blocked there: the address of its
// futex lies in that lock, whoever has published what. The holder is what libc has noted in the lock.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <sys/types.h>

#include "agent/safe/threads.h"
#include "agent/safe/unwind.h"
#include "agent/safe/waits.h"
#include "agent/service/futex_wait.h"

namespace profagent::service {

struct LockWait {
  pid_t waiter = 0;
  pid_t holder = 0;
  safe::WaitKind kind = safe::WaitKind::kNone;  // kMutex, kRwlock or kJoin
  std::uintptr_t object = 0;
  bool is_shared = false;  // a mutex between processes: the holder may be a thread of another one
  FutexWait futex;
  const safe::ThreadSlot* slot = nullptr;
  // Where the call that waits returns to.
  std::uintptr_t site_pc = 0;
  std::uintptr_t site_sp = 0;
  std::uintptr_t site_bp = 0;

  friend bool operator==(const LockWait&, const LockWait&) = default;
};

struct LockWaits {
  std::vector<LockWait> waits;  // by waiter, one each
  bool is_refused = false;      // the kernel does not show us where threads are blocked
};

[[nodiscard]] LockWaits read_lock_waits();

// True when there was a moment at which all of these waits held, and `meanwhile` was called around it: each
// thread is found blocked before and after, and has not run in between. Only the kernel's count of how often
// it ran can tell that from having been woken and blocked again.
[[nodiscard]] bool held_together(std::span<const LockWait> waits, const std::function<void()>& meanwhile);

}  // namespace profagent::service
