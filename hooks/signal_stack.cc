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
bool become_small(safe::ThreadSlot* slot) {
  const pid_t tid = safe::sys::gettid();
  const bool had_no_slot = slot != nullptr && safe::threads.is_marked_without_slot(tid);
  const bool is_new = slot == nullptr ? !safe::threads.mark_without_slot(tid, true)
                                      : !safe::threads.mark(slot->small_signal_stack, true);
  if (is_new) safe::events.small_signal_stacks.fetch_add(1);
  safe::cpu_timers.leave_alone(tid);
  safe::thread_asks.leave_alone(tid);
  if (is_new) safe::raise(safe::events.signal_stack_is_small);
  return had_no_slot || !is_new;
}

// It may have had no slot when it became small; when it has become so again since, both marks count.
void become_large(safe::ThreadSlot* slot) {
  const int marks = static_cast<int>(safe::threads.mark_without_slot(safe::sys::gettid(), false)) +
                    static_cast<int>(slot != nullptr && safe::threads.mark(slot->small_signal_stack, false));
  if (marks == 0 || safe::events.small_signal_stacks.fetch_sub(marks) != marks) return;
  if (!safe::may_ask_kernel()) return;
  const safe::SafeSection keeps_errno;
  safe::raise(safe::events.signal_stacks_are_large);
}

// The stack of a vfork() child's is not that of the thread whose slot it sees. Before the agent was loaded
// nobody knows, and there is no such child.
bool is_own_process() {
  const pid_t process = safe::events.process.load(std::memory_order_relaxed);
  return process == 0 || process == safe::sys::getpid();
}

// Under a filter no signal of ours comes, and nothing may be asked; but it may still be refused.
int set_under_filter(const stack_t* stack, stack_t* old) {
  const int result = real::sigaltstack(stack, old);
  safe::ThreadSlot* slot = safe::thread_state.slot;
  if (result == 0 && slot != nullptr && safe::is_too_small(*stack) &&
      !safe::threads.mark(slot->small_signal_stack, true))
    safe::events.small_signal_stacks.fetch_add(1);
  return result;
}

}  // namespace

int set_signal_stack(const stack_t* stack, stack_t* old) {
  if (stack == nullptr || safe::thread_state.is_agent) return real::sigaltstack(stack, old);
  if (!safe::may_ask_kernel()) return set_under_filter(stack, old);
  // A pointer to nothing is the kernel's to refuse.
  if (!is_own_process() || !safe::sys::is_readable(reinterpret_cast<std::uintptr_t>(stack)))
    return real::sigaltstack(stack, old);
  const bool too_small = safe::is_too_small(*stack);
  safe::ThreadSlot* slot = nullptr;
  bool was_too_small = false;
  {
    const safe::SafeSection keeps_errno;
    slot = safe::threads.current();
    // Before the kernel could use it.
    if (too_small) was_too_small = become_small(slot);
  }
  const int result = real::sigaltstack(stack, old);
  if (result == 0 ? !too_small : too_small && !was_too_small) become_large(slot);
  return result;
}

extern "C" {

PROFAGENT_EXPORT(sigaltstack)
int sigaltstack(const stack_t* stack, stack_t* old) {
  return set_signal_stack(stack, old);
}

}  // extern "C"

}  // namespace profagent::hooks
