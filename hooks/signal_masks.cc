// Whether a thread can take the signal of the CPU timers: it may block it. While no CPU profile is taken
// these only forward.
#include <csignal>

#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"
#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

namespace {

// Threads under a filter of the program's have none, and do not ask for their numbers.
bool may_have_timer() {
  return safe::cpu_recorder.is_running() && safe::may_ask_kernel();
}

// A timer that runs out while its signal is blocked would leave it pending, for the program's sigwait() or
// signalfd to find; so it stands still meanwhile.
template <typename Change>
int change_mask(bool blocks, bool unblocks, Change change) {
  if (blocks) safe::cpu_timers.pause(safe::sys::gettid());
  const int result = change();
  // Also when it was refused: then nothing was blocked.
  if (unblocks || (blocks && result != 0)) safe::cpu_timers.resume(safe::sys::gettid());
  return result;
}

template <typename Change>
int change_mask(int how, const sigset_t* signals, Change change) {
  const int number = safe::cpu_signal.number();
  // A pointer to nothing is the kernel's to refuse.
  if (signals == nullptr || number == 0 || !may_have_timer() ||
      !safe::sys::is_readable(reinterpret_cast<std::uintptr_t>(signals))) {
    return change();
  }
  const bool named = sigismember(signals, number) == 1;
  return change_mask(named && (how == SIG_BLOCK || how == SIG_SETMASK),
                     (named && how == SIG_UNBLOCK) || (!named && how == SIG_SETMASK), change);
}

bool is_sampled_signal(int number) {
  return safe::cpu_signal.is_ours(number) && may_have_timer();
}

// The signal that is ours may change; who takes one of them by waiting takes them all.
void note_signals_taken(const sigset_t* signals) {
  if (signals == nullptr || safe::thread_state.is_agent) return;
  // sigismember() sets errno when no signal is ours, whose number is 0 then.
  const safe::SafeSection keeps_errno;
  if (sigismember(signals, SIGPROF) != 1 && sigismember(signals, safe::cpu_signal.number()) != 1) return;
  safe::ThreadSlot* slot = safe::threads.current();
  if (slot == nullptr || safe::threads.mark(slot->takes_cpu_signal, true)) return;
  if (safe::may_ask_kernel()) safe::cpu_timers.leave_alone(safe::sys::gettid());
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT(pthread_sigmask)
int pthread_sigmask(int how, const sigset_t* signals, sigset_t* old) {
  return change_mask(how, signals, [=] { return real::pthread_sigmask(how, signals, old); });
}

PROFAGENT_EXPORT(sigprocmask)
int sigprocmask(int how, const sigset_t* signals, sigset_t* old) {
  return change_mask(how, signals, [=] { return real::sigprocmask(how, signals, old); });
}

// Cancellation points: nothing is held across the real call.
PROFAGENT_EXPORT(sigwait)
int sigwait(const sigset_t* signals, int* number) {
  note_signals_taken(signals);
  return wait_in<safe::WaitKind::kSleep, real::sigwait>(nullptr, signals, number);
}

PROFAGENT_EXPORT(sigwaitinfo)
int sigwaitinfo(const sigset_t* signals, siginfo_t* info) {
  note_signals_taken(signals);
  return wait_in<safe::WaitKind::kSleep, real::sigwaitinfo>(nullptr, signals, info);
}

PROFAGENT_EXPORT(sigtimedwait)
int sigtimedwait(const sigset_t* signals, siginfo_t* info, const timespec* timeout) {
  note_signals_taken(signals);
  return wait_in<safe::WaitKind::kSleep, real::sigtimedwait>(nullptr, signals, info, timeout);
}

PROFAGENT_EXPORT(sighold)
int sighold(int number) {
  return change_mask(is_sampled_signal(number), false, [=] { return real::sighold(number); });
}

PROFAGENT_EXPORT(sigrelse)
int sigrelse(int number) {
  return change_mask(false, is_sampled_signal(number), [=] { return real::sigrelse(number); });
}

}  // extern "C"

}  // namespace profagent::hooks
