// Walks the stack of another thread that is blocked. It stands still, and where is known from the kernel:
// /proc/self/task/TID/syscall tells its pc and sp, but not its other registers. They become known where a
// frame further out has saved them, and at the thread's wait site, which has the registers of its caller.
//
// Our thread only. Never faults, never endless, whatever the thread does meanwhile; whether the result is
// true is for the caller to confirm, by asking the kernel again.
#pragma once

#include <cstdint>
#include <span>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

struct OutsideStart {
  std::uintptr_t pc = 0;  // of the instruction behind the system call
  std::uintptr_t sp = 0;
  StartFrame site;  // pc 0: there is none
};

struct OutsideStack {
  static constexpr std::uint32_t kNotMet = ~std::uint32_t{0};

  std::uint32_t depth = 0;
  bool truncated = false;
  bool incomplete = false;
  // Frames further in than the wait site: what the call that waits has called. kNotMet: the thread is not
  // blocked in that call, so the site is an old one, or there is none.
  std::uint32_t site = kNotMet;
};

// Leaf first; frames of the agent's own are left out. With pc 0 in `start` the walk begins at the site.
[[nodiscard]] OutsideStack walk_outside(const OutsideStart& start, std::span<Pc> pcs) noexcept;

}  // namespace profagent::safe
