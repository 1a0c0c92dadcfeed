// The kernel's list of this process' threads, and what it tells about one of them. On our thread only.
//
// By way of /proc/thread-self: /proc/self belongs to the main thread, which may have ended.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <sys/types.h>

#include "agent/safe/cpu_buckets.h"

namespace profagent::service {

// Ascending as the kernel lists them; without /proc those that have entered a hook of ours.
[[nodiscard]] std::vector<pid_t> list_threads();

struct ThreadStatus {
  std::uint64_t blocked_signals = 0;  // bit number - 1
  // System call filters that the thread is under.
  std::int64_t filters = 0;
};
// nullopt when the thread is gone or /proc is not to be had.
[[nodiscard]] std::optional<ThreadStatus> read_thread_status(pid_t tid);

// Empty when the thread is gone.
[[nodiscard]] safe::ThreadName read_thread_name(pid_t tid);

}  // namespace profagent::service
