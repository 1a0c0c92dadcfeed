#include "hooks/signal_stack.h"

#include "agent/safe/cpu_signal.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_asks.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

// The kernel's words for the thread's alternate stack, before it is told.
bool is_too_small(const stack_t& stack) {
  return (stack.ss_flags & SS_DISABLE) == 0 && stack.ss_size < safe::least_alternate_stack();
}

// Of the calling thread's alternate stack. The kernel ends a process whose alternate stack has no room for a
// signal, so none of ours may come from here on: not from a timer of the CPU profile's, not to ask where the
// thread stands, not to tell of a client.
void become_small(safe::ThreadSlot& slot) {
  if (!safe::threads.mark(slot.small_signal_stack, true)) safe::events.small_signal_stacks.fetch_add(1);
  if (!safe::may_ask_kernel()) return;  // nothing of ours is sent here
  const pid_t tid = safe::sys::gettid();
  safe::cpu_timers.leave_alone(tid);
  safe::thread_asks.leave_alone(tid);
  safe::raise(safe::events.signal_stack_is_small);
}

void become_large(safe::ThreadSlot& slot) {
  if (safe::threads.mark(slot.small_signal_stack, false)) safe::events.small_signal_stacks.fetch_sub(1);
}

}  // namespace

int set_signal_stack(const stack_t* stack, stack_t* old) {
  // A pointer to nothing is the kernel's to refuse.
  if (stack == nullptr || safe::thread_state.is_agent ||
      !safe::sys::is_readable(reinterpret_cast<std::uintptr_t>(stack)))
    return real::sigaltstack(stack, old);
  const bool too_small = is_too_small(*stack);
  safe::ThreadSlot* slot = nullptr;
  bool was_too_small = false;
  {
    const safe::SafeSection keeps_errno;
    slot = safe::threads.current();
    was_too_small = slot != nullptr && slot->small_signal_stack.load(std::memory_order_relaxed);
    // Before the kernel could use it.
    if (too_small && slot != nullptr) become_small(*slot);
  }
  const int result = real::sigaltstack(stack, old);
  if (slot != nullptr && !(result == 0 ? too_small : was_too_small)) become_large(*slot);
  return result;
}

extern "C" {

PROFAGENT_EXPORT(sigaltstack)
int sigaltstack(const stack_t* stack, stack_t* old) {
  return set_signal_stack(stack, old);
}

}  // extern "C"

}  // namespace profagent::hooks
