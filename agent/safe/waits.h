// Wait sites: every hooked call that can block says in its thread's slot what it waits for and where it was
// called from, and withdraws that when it is back. While a thread is blocked its stack cannot move, so our
// thread can walk it from the registers that stand here, without a signal.
//
// A thread that is cancelled in a wait, or leaves it by longjmp, never withdraws: a reader must confirm that
// the thread is still blocked.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

enum class WaitKind : std::uint32_t {
  kNone,
#define PROFAGENT_WAIT(name, text) name,
#include "agent/safe/waits.def"
#undef PROFAGENT_WAIT
};

[[nodiscard]] std::string_view text_of(WaitKind kind) noexcept;

struct WaitSite {
  // Stored last with release and read first with acquire: who sees a kind sees the rest, or that of a later
  // wait of the same thread.
  std::atomic<WaitKind> kind{WaitKind::kNone};
  std::atomic<const void*> object{nullptr};
  // Where the call that waits returns to.
  std::atomic<std::uintptr_t> pc{0};
  std::atomic<std::uintptr_t> sp{0};
  std::atomic<std::uintptr_t> bp{0};

  void publish(WaitKind why, const void* what, const StartFrame& caller) noexcept {
    object.store(what, std::memory_order_relaxed);
    pc.store(caller.pc, std::memory_order_relaxed);
    sp.store(caller.sp, std::memory_order_relaxed);
    bp.store(caller.bp, std::memory_order_relaxed);
    kind.store(why, std::memory_order_release);
  }
  void withdraw() noexcept { kind.store(WaitKind::kNone, std::memory_order_release); }
};

}  // namespace profagent::safe
