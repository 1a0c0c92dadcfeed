// What the hooks tell the roof. The ground floor cannot see the roof, so the roof leaves a function here;
// none is called before it has. The functions run on the program's thread, in ordinary context but for those
// of signal stacks, which a signal handler may call. Where a guard is held its allocations are not recorded.
#pragma once

#include <atomic>

#include <sys/types.h>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"

namespace profagent::safe {

using EventHandler = void (*)() noexcept;

struct Events {
  // The program has created a thread.
  std::atomic<EventHandler> thread_created{nullptr};
  // Around a call that changes the rights of one thread or of all: our thread must not exist during it.
  std::atomic<EventHandler> rights_will_change{nullptr};
  std::atomic<EventHandler> rights_changed{nullptr};
  // In place of the first of them when the right to make system calls is to change.
  std::atomic<EventHandler> filter_will_come{nullptr};
  // The same on a thread that is under a filter already, for one that all others will get: nothing may be
  // asked.
  std::atomic<EventHandler> filter_will_come_for_all{nullptr};
  // The program wants the signal for itself that tells us of clients: we leave it before the program gets it.
  std::atomic<int> wake_signal{0};  // 0: none
  std::atomic<EventHandler> wake_signal_wanted{nullptr};
  // Something is to be done that could not be done where it came up (a signal handler, the child of a fork):
  // the next hook on malloc's slow path calls `deferred` when `is_deferred` is set.
  std::atomic<EventHandler> deferred{nullptr};
  std::atomic<bool> is_deferred{false};
  // Whom all this is about; not the child of a vfork(), which has the same memory. 0: not known yet.
  std::atomic<pid_t> process{0};
  // The program has put all its threads under a system call filter at once, or is about to. Counted, as one
  // that is refused must not take back another's.
  std::atomic<int> all_are_filtered{0};
  // Some thread is, or was.
  std::atomic<int> any_is_filtered{0};
  // Threads whose alternate stack has no room for a signal of ours, and what is to be done when one becomes
  // such a thread, before it does, and when there is none any more.
  std::atomic<int> small_signal_stacks{0};
  std::atomic<EventHandler> signal_stack_is_small{nullptr};
  std::atomic<EventHandler> signal_stacks_are_large{nullptr};
};

extern constinit Events events;

inline void raise(const std::atomic<EventHandler>& event) noexcept {
  if (EventHandler handler = event.load(std::memory_order_acquire); handler != nullptr) handler();
}

// False in the child of a vfork(), which has our memory. As long as the process is not known there is none.
inline bool is_own_process() noexcept {
  const pid_t process = events.process.load(std::memory_order_relaxed);
  return process == 0 || process == sys::getpid();
}

// Whether this thread may do what asks the kernel for more than the program does: our thread is not started
// from under a filter that the program has installed, which may end the process for it.
inline bool may_ask_kernel() noexcept {
  return !thread_state.is_filtered && events.all_are_filtered.load(std::memory_order_relaxed) == 0;
}

// Whether a signal may be sent to the process, which any of its threads may get.
inline bool may_signal_process() noexcept {
  return events.any_is_filtered.load() == 0 && events.small_signal_stacks.load() == 0;
}

// Whether it may read the clock for us.
inline bool may_read_clock() noexcept {
  return may_ask_kernel() || is_clock_free();
}

}  // namespace profagent::safe
