#include "agent/safe/clock.h"

#include <atomic>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constinit std::atomic<ClockFunction> clock_function{nullptr};

}  // namespace

void set_clock_function(ClockFunction function) noexcept {
  clock_function.store(function, std::memory_order_relaxed);
}

bool may_read_ticks() noexcept {
  return clock_function.load(std::memory_order_relaxed) != nullptr;
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
