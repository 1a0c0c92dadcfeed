// CLOCK_MONOTONIC without libc's clock_gettime(), which the program may have one of its own in front of. Any
// thread, also in signal handlers.
#pragma once

#include <atomic>
#include <ctime>

#include "agent/safe/types.h"

namespace profagent::safe {

// The kernel's function in the vDSO: a tenth of the system call's time.
using ClockFunction = int (*)(clockid_t, timespec*);
// At load. Null: by system call.
void set_clock_function(ClockFunction function) noexcept;
// Whether the processor's own counter may be read, and with it the time by the function above. Until
// somebody says no: yes.
void allow_ticks(bool allowed) noexcept;
// Set by allow_ticks() alone.
[[gnu::visibility("hidden")]] extern constinit std::atomic<bool> are_ticks_faults;
[[nodiscard]] inline bool may_read_ticks() noexcept {
  return !are_ticks_faults.load(std::memory_order_relaxed);
}

// ns.
[[nodiscard]] Nanos monotonic_now() noexcept;

}  // namespace profagent::safe
