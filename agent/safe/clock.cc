#include "agent/safe/clock.h"

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constinit std::atomic<ClockFunction> clock_function{nullptr};

}  // namespace

constinit std::atomic<bool> are_ticks_faults{false};

void set_clock_function(ClockFunction function) noexcept {
  clock_function.store(function, std::memory_order_relaxed);
}

void allow_ticks(bool allowed) noexcept {
  are_ticks_faults.store(!allowed, std::memory_order_relaxed);
}

Nanos now_by(clockid_t clock) noexcept {
  timespec time{};
  const ClockFunction function = clock_function.load(std::memory_order_relaxed);
  if (function == nullptr || function(clock, &time) != 0)
    sys::call(SYS_clock_gettime, clock, reinterpret_cast<long>(&time));
  return to_nanos(time);
}

}  // namespace profagent::safe
