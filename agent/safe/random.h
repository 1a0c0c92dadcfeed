// A small random generator per thread (xorshift64*), seeded without a system call.
#pragma once

#include <cstdint>

#include "agent/safe/clock.h"

namespace profagent::safe {

// `state` must not be 0. Period 2^64 - 1.
inline std::uint64_t next_random(std::uint64_t& state) noexcept {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1dULL;
}

// A seed that differs between threads and between runs. The time stamp counter gives the run, the address
// (of something of the thread's own) the thread; splitmix64's finaliser spreads both.
inline std::uint64_t make_seed(const void* thread_object) noexcept {
  // Where the counter is a fault, the thread alone.
  std::uint64_t x = (may_read_ticks() ? __builtin_ia32_rdtsc() : 0) ^
                    (reinterpret_cast<std::uintptr_t>(thread_object) << 16);
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  x ^= x >> 31;
  return x == 0 ? 1 : x;
}

}  // namespace profagent::safe
