// What /proc tells of one thread of this process. Allocates nothing, so the roof may ask at load; three
// system calls and a few microseconds.
#pragma once

#include <cstdint>

#include <sys/types.h>

namespace profagent::safe {

struct ThreadStatus {
  // Bit number - 1. Negative knowledge counts: when the kernel does not say, all are blocked.
  std::uint64_t blocked_signals = ~std::uint64_t{0};
  // System call filters (seccomp) that the thread is under; negative when the kernel does not tell.
  std::int64_t filters = -1;
};

// By way of /proc/thread-self: /proc/self belongs to the main thread, which may have ended. False when the
// thread is gone, or /proc is not to be had.
[[nodiscard]] bool read_thread_status(pid_t tid, ThreadStatus& status) noexcept;

}  // namespace profagent::safe
