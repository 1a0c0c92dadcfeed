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

// Before a system call filter comes, on a thread that may still ask the kernel: finds out for
// is_clock_free().
void find_whether_clock_asks() noexcept;
// Whether monotonic_now() is known to need no system call.
[[nodiscard]] bool is_clock_free() noexcept;

// ns since whatever the clock counts from; CLOCK_REALTIME: since 1970.
[[nodiscard]] Nanos now_by(clockid_t clock) noexcept;
// For durations.
[[nodiscard]] inline Nanos monotonic_now() noexcept {
  return now_by(CLOCK_MONOTONIC);
}

// Without the kernel, on a thread that may not ask it: looks until `condition` holds; false when that took
// longer than `patience`. Where there is no clock either, about that long on processors with a short `pause`,
// and up to twenty times as long on others.
template <typename Condition>
bool spin_until(Condition condition, Nanos patience) noexcept {
  constexpr Nanos kShortestPause = 3;
  const bool has_clock = is_clock_free();
  const Nanos end = has_clock ? monotonic_now() + patience : patience / kShortestPause;
  for (Nanos pauses = 0; !condition(); ++pauses) {
    if ((has_clock ? monotonic_now() : pauses) > end) return false;
    __builtin_ia32_pause();
  }
  return true;
}
inline void spin(Nanos length) noexcept {
  static_cast<void>(spin_until([] { return false; }, length));
}

}  // namespace profagent::safe
