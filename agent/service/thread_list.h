// The kernel's list of this process' threads, and what it tells about one of them. On our thread only.
//
// By way of /proc/thread-self: /proc/self belongs to the main thread, which may have ended.
#pragma once

#include <string_view>
#include <vector>

#include <sys/types.h>

#include "agent/safe/cpu_buckets.h"

namespace profagent::service {

// Ascending as the kernel lists them; without /proc those that have entered a hook of ours.
[[nodiscard]] std::vector<pid_t> list_threads();

// Gone, or on its way out of the kernel's list; the main thread stays listed until the last thread ends.
[[nodiscard]] bool has_ended(pid_t tid);

// Cut to what a name can have.
[[nodiscard]] safe::ThreadName to_thread_name(std::string_view text);

// Empty when the thread is gone.
[[nodiscard]] safe::ThreadName read_thread_name(pid_t tid);

}  // namespace profagent::service
