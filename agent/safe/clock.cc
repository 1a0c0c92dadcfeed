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

Nanos monotonic_now() noexcept {
  timespec time{};
  const ClockFunction function = clock_function.load(std::memory_order_relaxed);
  if (function == nullptr || function(CLOCK_MONOTONIC, &time) != 0)
    sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, reinterpret_cast<long>(&time));
  constexpr Nanos kPerSecond = 1'000'000'000;
  return time.tv_sec * kPerSecond + time.tv_nsec;
}

}  // namespace profagent::safe
