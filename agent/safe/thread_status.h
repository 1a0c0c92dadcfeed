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

// Whether the program has put the thread under a filter. `at_load`: those of the first thread then, which
// came from outside; negative when the kernel tells of none at all. Before Linux 5.9 it does not tell how
// many.
[[nodiscard]] inline bool may_be_filtered(const ThreadStatus& status, std::int64_t at_load) noexcept {
  return at_load >= 0 && (status.filters < 0 || status.filters > at_load);
}

}  // namespace profagent::safe
