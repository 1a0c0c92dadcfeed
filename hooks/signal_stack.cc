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

// Of the calling thread's alternate stack. The kernel ends a process whose alternate stack has no room for a
// signal, so none of ours may come from here on: not from a timer of the CPU profile's, not to ask where the
// thread stands, not to tell of a client. Returns whether it was so before.
bool become_small() {
  const safe::SafeSection keeps_errno;
  const bool was_small = safe::threads.mark_small_stack(true);
  const pid_t tid = safe::sys::gettid();
  safe::cpu_timers.leave_alone(tid);
  safe::thread_asks.leave_alone(tid);
  if (!was_small) safe::raise(safe::events.signal_stack_is_small);
  return was_small;
}

void become_large() {
  const safe::SafeSection keeps_errno;
  if (safe::threads.mark_small_stack(false) && safe::events.small_signal_stacks.load() == 0)
    safe::raise(safe::events.signal_stacks_are_large);
}

// No signal of ours comes, and nothing may be asked; but the filter may still be refused.
int set_under_filter(const stack_t* stack, stack_t* old) {
  const int result = real::sigaltstack(stack, old);
  if (result == 0 && safe::is_too_small(*stack)) safe::threads.mark_small_stack(true);
  return result;
}

}  // namespace

int set_signal_stack(const stack_t* stack, stack_t* old) {
  if (stack == nullptr || safe::thread_state.is_agent) return real::sigaltstack(stack, old);
  if (!safe::may_ask_kernel()) return set_under_filter(stack, old);
  // The stack of a vfork() child is not that of the thread whose slot it sees; a pointer to nothing is the
  // kernel's to refuse.
  if (!safe::is_own_process() || !safe::sys::is_readable(reinterpret_cast<std::uintptr_t>(stack)))
    return real::sigaltstack(stack, old);
  const bool too_small = safe::is_too_small(*stack);
  // Before the kernel could use it.
  const bool was_small = too_small && become_small();
  const int result = real::sigaltstack(stack, old);
  if (result == 0 ? !too_small : too_small && !was_small) become_large();
  return result;
}

extern "C" {

PROFAGENT_EXPORT(sigaltstack)
int sigaltstack(const stack_t* stack, stack_t* old) {
  return set_signal_stack(stack, old);
}

}  // extern "C"

}  // namespace profagent::hooks
