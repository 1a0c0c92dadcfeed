// Whether a thread can take the signal of the CPU timers: it may block it, or have an alternate stack that is
// too small for it. While no CPU profile is taken these only forward.
#include <csignal>

#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

// A timer that runs out while its signal is blocked would leave it pending, for the program's sigwait() or
// signalfd to find; so it stands still meanwhile.
template <typename Change>
int change_mask(int how, const sigset_t* signals, Change change) {
  const int number = safe::cpu_signal.number();
  if (signals == nullptr || number == 0 || !safe::cpu_recorder.is_running()) return change();
  const bool named = sigismember(signals, number) == 1;
  const bool blocks = named && (how == SIG_BLOCK || how == SIG_SETMASK);
  const bool unblocks = (named && how == SIG_UNBLOCK) || (!named && how == SIG_SETMASK);
  if (blocks) safe::cpu_timers.pause(safe::sys::gettid());
  const int result = change();
  if (unblocks || (blocks && result != 0)) safe::cpu_timers.resume(safe::sys::gettid());
  return result;
}

// The kernel's words for the thread's alternate stack, before it is told.
bool is_too_small(const stack_t& stack) {
  return (stack.ss_flags & SS_DISABLE) == 0 && stack.ss_size < safe::least_alternate_stack();
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT int pthread_sigmask(int how, const sigset_t* signals, sigset_t* old) {
  return change_mask(how, signals, [=] { return real::pthread_sigmask(how, signals, old); });
}

PROFAGENT_EXPORT int sigprocmask(int how, const sigset_t* signals, sigset_t* old) {
  return change_mask(how, signals, [=] { return real::sigprocmask(how, signals, old); });
}

PROFAGENT_EXPORT int sigaltstack(const stack_t* stack, stack_t* old) {
  if (stack == nullptr || safe::thread_state.is_agent) return real::sigaltstack(stack, old);
  const bool too_small = is_too_small(*stack);
  {
    const safe::SafeSection keeps_errno;
    safe::ThreadSlot* slot = safe::threads.current();
    if (slot != nullptr) slot->small_signal_stack.store(too_small, std::memory_order_relaxed);
    // Before the kernel could use it.
    if (too_small && safe::cpu_recorder.is_running()) safe::cpu_timers.remove(safe::sys::gettid());
  }
  return real::sigaltstack(stack, old);
}

}  // extern "C"

}  // namespace profagent::hooks
