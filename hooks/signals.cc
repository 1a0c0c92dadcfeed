// Keeps the one signal that we use out of the program's sight: as long as it does not ask for it, it sees the
// default action; when it does, we move to another before it gets it.
#include <csignal>

#include <sys/signalfd.h>

#include "agent/safe/events.h"
#include "agent/safe/thread_state.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

bool is_wake_signal(int number) {
  return number != 0 && number == safe::events.wake_signal.load(std::memory_order_relaxed);
}

void leave_signal() {
  const safe::SafeSection keeps_errno;
  safe::raise(safe::events.wake_signal_wanted);
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT int sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  if (!is_wake_signal(number)) return real::sigaction(number, action, old);
  if (action != nullptr) {
    leave_signal();
    return real::sigaction(number, action, old);
  }
  const int result = real::sigaction(number, action, old);
  if (result == 0 && old != nullptr) *old = {};  // SIG_DFL, no flags, empty mask
  return result;
}

PROFAGENT_EXPORT sighandler_t signal(int number, sighandler_t handler) {
  if (is_wake_signal(number)) leave_signal();
  return real::signal(number, handler);
}

PROFAGENT_EXPORT int signalfd(int descriptor, const sigset_t* signals, int flags) {
  const int wake_signal = safe::events.wake_signal.load(std::memory_order_relaxed);
  // libc declares it never null, so compilers drop the test; a program that passes null gets the kernel's
  // answer.
  const sigset_t* mask = signals;
  asm("" : "+r"(mask));
  if (wake_signal != 0 && mask != nullptr && sigismember(mask, wake_signal) == 1) leave_signal();
  return real::signalfd(descriptor, signals, flags);
}

}  // extern "C"

}  // namespace profagent::hooks
