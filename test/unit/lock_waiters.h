// A table of waiters on a clock of the test's. Times are multiples of 64 ns, the unit of the table, so that
// sums are exact unless a test says otherwise.
#pragma once

#include <catch2/catch.hpp>
#include <memory>

#include "agent/safe/arena.h"
#include "agent/safe/lock_waiters.h"

namespace profagent::safe {

constexpr Nanos kUnit = 64;
// Times are kept from a base that moves once a second or so.
constexpr Nanos kBaseUnit = Nanos{1} << 30;
constexpr Nanos kHour = 3600 * Nanos{1'000'000'000};
constexpr StackId kHolder = 0x4711;

inline thread_local Nanos thread_clock = 0;
inline thread_local int clock_calls = 0;
inline Nanos read_thread_clock() noexcept {
  ++clock_calls;
  return thread_clock;
}

inline StackId read_stack(const void* argument) noexcept {
  return *static_cast<const StackId*>(argument);
}

inline Nanos take_over_at(LockWaiters& waiters, const void* lock, Nanos now, StackId holder = kHolder) {
  thread_clock = now;
  return waiters.take_over(lock, read_thread_clock, {read_stack, &holder}).nanos;
}

inline const void* lock_at(std::uintptr_t number) {
  return reinterpret_cast<const void*>(0x7f0000000000 + number * 8);
}

inline std::unique_ptr<LockWaiters> make_waiters() {
  arena.set_limit(arena.mapped() + (std::size_t{1} << 20));
  auto waiters = std::make_unique<LockWaiters>();
  REQUIRE(waiters->prepare());
  return waiters;
}

}  // namespace profagent::safe
