// The kernel's clocks without libc's clock_gettime(), which the program may have one of its own in front of.
// Any thread, also in signal handlers.
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

[[nodiscard]] constexpr Nanos to_nanos(const timespec& time) noexcept {
  return time.tv_sec * kNanosPerSecond + time.tv_nsec;
}
[[nodiscard]] constexpr Nanos to_nanos(double seconds) noexcept {
  return static_cast<Nanos>(seconds * static_cast<double>(kNanosPerSecond));
}
[[nodiscard]] constexpr double to_seconds(Nanos nanos) noexcept {
  return static_cast<double>(nanos) / static_cast<double>(kNanosPerSecond);
}

// ns since whatever the clock counts from; CLOCK_REALTIME: since 1970.
[[nodiscard]] Nanos now_by(clockid_t clock) noexcept;
// For durations.
[[nodiscard]] inline Nanos monotonic_now() noexcept {
  return now_by(CLOCK_MONOTONIC);
}

}  // namespace profagent::safe
