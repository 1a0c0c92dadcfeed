// How our thread comes and goes, seen from the kernel. Nothing here allocates or throws.
#pragma once

#include <cstdint>

#include <pthread.h>
#include <sys/types.h>

namespace profagent::service {

// pthread_create, or whatever pointer leads past our own hook of it.
using CreateThread = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);

// Creates the thread: detached, small stack, SCHED_OTHER whatever the caller's policy, all signals blocked
// from its first instruction on. The caller's signal mask is as before. Returns pthread_create's error.
[[nodiscard]] int create_service_thread(CreateThread create, void* (*body)(void*), void* argument) noexcept;

// On the thread, first: name, cancellation off, nice, the process' CPU set instead of the creator's.
void settle_service_thread() noexcept;

// Waits until the kernel has no thread of that id in this process any more; a joined thread may still be
// counted for a moment, and unshare(CLONE_NEWUSER) then fails. False at `give_up` (CLOCK_MONOTONIC ns).
[[nodiscard]] bool wait_until_gone(pid_t tid, std::int64_t give_up) noexcept;

}  // namespace profagent::service
