// The actions of signals. Two signals are ours as long as the program does not use them: the one that tells
// us of clients (agent/wake.h), and the one of the CPU timers (agent/safe/cpu_signal.h). The program is told
// that they have their default action; when it wants one, we move to another before it gets it.
#include <csignal>
#include <cstdint>
#include <cstring>

#include <sys/signalfd.h>

#include "agent/safe/cpu_signal.h"
#include "agent/safe/events.h"
#include "agent/safe/thread_state.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

bool is_wake_signal(int number) {
  return number != 0 && number == safe::events.wake_signal.load(std::memory_order_relaxed);
}

void leave_wake_signal() {
  const safe::SafeSection keeps_errno;
  safe::raise(safe::events.wake_signal_wanted);
}

void leave_cpu_signal() {
  const safe::SafeSection keeps_errno;
  safe::cpu_signal.leave();
}

// For the functions that take a handler and return the one before.
template <typename SetHandler>
sighandler_t set_handler(int number, sighandler_t handler, SetHandler set) {
  if (is_wake_signal(number)) leave_wake_signal();
  if (!safe::cpu_signal.is_ours(number)) return set(number, handler);
  // It has the default action as far as the program knows, and keeps ours.
  if (handler == SIG_DFL) return SIG_DFL;
  leave_cpu_signal();
  return set(number, handler) == SIG_ERR ? SIG_ERR : SIG_DFL;
}

template <typename SetAction>
int set_action(int number, const struct sigaction* action, struct sigaction* old, SetAction set) {
  const bool is_cpu_signal = safe::cpu_signal.is_ours(number);
  if (!is_cpu_signal && !is_wake_signal(number)) return set(number, action, old);
  const bool stays = action == nullptr || (is_cpu_signal && action->sa_handler == SIG_DFL);
  struct sigaction before {};  // SIG_DFL, no flags, empty mask
  if (is_cpu_signal) {
    before.sa_flags = safe::cpu_signal.default_flags();
    const std::uint64_t mask = safe::cpu_signal.default_mask();
    std::memcpy(&before.sa_mask, &mask, sizeof(mask));
  }
  int result = 0;
  if (stays && action != nullptr) {
    std::uint64_t mask = 0;
    std::memcpy(&mask, &action->sa_mask, sizeof(mask));
    safe::cpu_signal.note_default(action->sa_flags, mask);
  }
  if (!stays) {
    if (is_cpu_signal) {
      leave_cpu_signal();
    } else {
      leave_wake_signal();
    }
    result = set(number, action, nullptr);
  }
  if (result == 0 && old != nullptr) *old = before;
  return result;
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT(sigaction)
int sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  return set_action(number, action, old, real::sigaction);
}

PROFAGENT_EXPORT(__sigaction)
int __sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  return set_action(number, action, old, real::__sigaction);
}

PROFAGENT_EXPORT(signal)
sighandler_t signal(int number, sighandler_t handler) {
  return set_handler(number, handler, real::signal);
}

PROFAGENT_EXPORT(bsd_signal)
sighandler_t bsd_signal(int number, sighandler_t handler) {
  return set_handler(number, handler, real::bsd_signal);
}

PROFAGENT_EXPORT(ssignal)
sighandler_t ssignal(int number, sighandler_t handler) {
  return set_handler(number, handler, real::ssignal);
}

PROFAGENT_EXPORT(sysv_signal)
sighandler_t sysv_signal(int number, sighandler_t handler) {
  return set_handler(number, handler, real::sysv_signal);
}

PROFAGENT_EXPORT(__sysv_signal)
sighandler_t __sysv_signal(int number, sighandler_t handler) {
  return set_handler(number, handler, real::__sysv_signal);
}

PROFAGENT_EXPORT(sigset)
sighandler_t sigset(int number, sighandler_t handler) {
  // Also blocks or unblocks it, so it gets its way: the timers move.
  if (is_wake_signal(number)) leave_wake_signal();
  if (!safe::cpu_signal.is_ours(number)) return real::sigset(number, handler);
  leave_cpu_signal();
  const sighandler_t before = real::sigset(number, handler);
  return before == SIG_ERR || before == SIG_HOLD ? before : SIG_DFL;
}

PROFAGENT_EXPORT(sigignore)
int sigignore(int number) {
  if (is_wake_signal(number)) leave_wake_signal();
  if (safe::cpu_signal.is_ours(number)) leave_cpu_signal();
  return real::sigignore(number);
}

PROFAGENT_EXPORT(siginterrupt)
int siginterrupt(int number, int interrupts) {
  // Says how a handler of the program's is to be installed, and it has none.
  if (is_wake_signal(number) || safe::cpu_signal.is_ours(number)) return 0;
  return real::siginterrupt(number, interrupts);
}

PROFAGENT_EXPORT(signalfd)
int signalfd(int descriptor, const sigset_t* signals, int flags) {
  const int wake_signal = safe::events.wake_signal.load(std::memory_order_relaxed);
  // libc declares it never null, so compilers drop the test; a program that passes null gets the kernel's
  // answer.
  const sigset_t* mask = signals;
  asm("" : "+r"(mask));
  if (wake_signal != 0 && mask != nullptr && sigismember(mask, wake_signal) == 1) leave_wake_signal();
  return real::signalfd(descriptor, signals, flags);
}

}  // extern "C"

}  // namespace profagent::hooks
