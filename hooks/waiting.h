// What the hooks of calls that can block share: they publish where the thread stands, measure the wait bare,
// and record it when it is over. No guard is held across the real call: it may be cancelled, left by longjmp,
// or last for ever.
//
// A hook decides and then jumps to one of the functions here: they are not inlined, so that a hook has no
// frame to set up, and they are called last, so that their caller is the program's call.
#pragma once

#include <cerrno>

#include "agent/safe/contention_recorder.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/unwind.h"
#include "agent/safe/waits.h"

namespace profagent::hooks {

struct WaitBegin {
  safe::WaitSite* site = nullptr;
  safe::Nanos at = 0;  // 0: not timed
  safe::LockWaiters::Ticket ticket;
};

[[nodiscard]] WaitBegin begin_wait(const safe::Wait& wait, bool is_lock) noexcept;
// `waited`: false for a call that was refused; then nothing is recorded.
void end_wait(const WaitBegin& begin, const safe::Wait& wait, bool waited) noexcept;
[[nodiscard]] safe::Nanos before_unlock(const safe::Wait& unlock) noexcept;
void record_unlock(const safe::Wait& unlock, safe::Nanos waited) noexcept;

// Our own thread's waits, and those that an allocator makes inside one of our hooks, are nobody's business.
[[nodiscard]] inline bool is_outside() noexcept {
  return safe::thread_state.section == 0 && !safe::thread_state.is_agent;
}

// What the threads library answers to a call that it does not carry out.
[[nodiscard]] inline bool is_refusal(int answer) noexcept {
  return answer == EDEADLK || answer == EPERM || answer == EINVAL;
}

// Calls `real`, one of the pointers of hooks/real.h, for a thread that waits for `object`, or may have to.
template <safe::WaitKind kind, auto& real, bool is_lock = false, typename... Arguments>
[[gnu::noinline]] auto wait_in(const void* object, Arguments... arguments) {
  if (!is_outside()) return real(arguments...);
  const safe::Wait wait{kind, object, reinterpret_cast<safe::Pc>(real), safe::caller_frame()};
  const WaitBegin begin = begin_wait(wait, is_lock);
  const auto result = real(arguments...);
  end_wait(begin, wait, !is_lock || !is_refusal(static_cast<int>(result)));
  return result;
}

// For a lock that was found taken.
template <safe::WaitKind kind, auto& real, typename Lock, typename... Arguments>
[[gnu::always_inline]] inline auto wait_for_lock(Lock* lock, Arguments... arguments) {
  return wait_in<kind, real, true>(static_cast<const void*>(lock), lock, arguments...);
}

template <safe::WaitKind kind, auto& real, typename Lock>
[[gnu::noinline]] auto unlock_watched(Lock* lock) {
  if (!is_outside()) return real(lock);
  const safe::Wait unlock{kind, lock, reinterpret_cast<safe::Pc>(real), safe::caller_frame()};
  const safe::Nanos waited = before_unlock(unlock);
  const auto result = real(lock);
  if (waited != 0) record_unlock(unlock, waited);
  return result;
}

template <safe::WaitKind kind, auto& real, typename Lock>
[[gnu::always_inline]] inline auto unlock_in(Lock* lock) {
  if (safe::contention_recorder.is_watching_locks()) [[unlikely]]
    return unlock_watched<kind, real>(lock);
  return real(lock);
}

// A wait that releases a mutex first, and takes it again out of our sight.
template <auto& real, typename Cond, typename Mutex, typename... Arguments>
[[gnu::noinline]] auto wait_for_cond(Cond* cond, Mutex* mutex, Arguments... arguments) {
  if (!is_outside()) return real(cond, mutex, arguments...);
  const safe::StartFrame caller = safe::caller_frame();
  const auto function = reinterpret_cast<safe::Pc>(real);
  const safe::Wait unlock{safe::WaitKind::kMutex, mutex, function, caller};
  const safe::Wait wait{safe::WaitKind::kCond, cond, function, caller};
  const safe::Nanos waited = before_unlock(unlock);
  const WaitBegin begin = begin_wait(wait, false);
  const auto result = real(cond, mutex, arguments...);
  const bool refused = is_refusal(static_cast<int>(result));
  end_wait(begin, wait, !refused);
  if (waited != 0 && !refused) record_unlock(unlock, waited);
  return result;
}

}  // namespace profagent::hooks
