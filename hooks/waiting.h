// What the hooks of calls that can block share: they publish where the thread stands, measure the wait bare,
// and record it when it is over. No guard is held across the real call: it may be cancelled, left by longjmp,
// or last for ever.
//
// A hook decides and then jumps to one of the functions here: they are not inlined, so that a hook has no
// frame to set up, and they are called last, so that their caller is the program's call.
#pragma once

#include <cerrno>
#include <cstdint>

#include "agent/safe/contention_recorder.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/unwind.h"
#include "agent/safe/waits.h"
#include "hooks/lock_state.h"
#include "hooks/unrecoverable.h"

namespace profagent::hooks {

struct WaitBegin {
  safe::WaitSite* site = nullptr;
  // What the thread waited for when a signal handler came, which waits now.
  safe::WaitKind outer_kind = safe::WaitKind::kNone;
  const void* outer_object = nullptr;
  safe::StartFrame outer_caller;
  safe::Nanos at = 0;     // 0: not timed
  safe::Nanos until = 0;  // 0: until end_wait() is called
  safe::Draw draw;
  bool may_look = false;
  const void* key = nullptr;  // under which it is entered
  safe::LockWaiters::Ticket ticket;
};

// Whether those who wait for something that another thread gives them are entered as waiters.
enum class Entered : std::uint8_t { kNever, kWhileHoldersAreTold };

[[nodiscard]] WaitBegin begin_wait(const safe::Wait& wait, Entered entered) noexcept;
// For a lock, whose waiters are entered so that its holder is charged: not entered yet, but for some of those
// that may look at it for a while.
[[nodiscard]] WaitBegin begin_lock_wait(const safe::Wait& wait, bool may_be_tried_again) noexcept;
// A moment in which the lock may become free, each longer than the one before; false: it was given enough of
// them. To be entered, charged and put to sleep takes longer than most locks are held, and makes those that
// have the lock meanwhile slower.
[[nodiscard]] bool look_away(WaitBegin& begin, int looked) noexcept;
// It did not, or may not be looked at.
void enter_lock_wait(WaitBegin& begin, const safe::Wait& wait) noexcept;
// `waited`: false for a call that was refused; then nothing is recorded.
void end_wait(WaitBegin& begin, const safe::Wait& wait, bool waited) noexcept;
[[nodiscard]] safe::Charge before_unlock(const safe::Wait& unlock) noexcept;
void record_unlock(const safe::Wait& unlock, const safe::Charge& charge) noexcept;
void record_wake(const safe::Wait& wake) noexcept;

// Our own thread's waits, and those that an allocator makes inside one of our hooks, are nobody's business.
[[nodiscard, gnu::always_inline]] inline bool is_outside() noexcept {
  return !safe::thread_state.is_agent &&
         !safe::Section::is_open(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)));
}

// What the threads library answers to a call that it does not carry out.
[[nodiscard]] inline bool is_refusal(int answer) noexcept {
  return answer == EDEADLK || answer == EPERM || answer == EINVAL;
}

// Calls `real`, one of the pointers of hooks/real.h, for a thread that waits for `object`, or may have to; by
// `call`, where that needs something more. Into the function that the program has called, or jumped to by it.
template <safe::WaitKind kind, auto& real, Entered entered, auto& call, typename... Arguments>
[[gnu::always_inline]] inline auto wait_here(const void* object, Arguments... arguments) {
  if (!is_outside()) return call(arguments...);
  const safe::Wait wait{kind, object, reinterpret_cast<safe::Pc>(real), safe::caller_frame()};
  WaitBegin begin = begin_wait(wait, entered);
  const auto result = call(arguments...);
  bool waited = true;
  // The word had another value.
  if constexpr (kind == safe::WaitKind::kFutex) waited = result != -1 || errno != EAGAIN;
  end_wait(begin, wait, waited);
  return result;
}

template <safe::WaitKind kind, auto& real, Entered entered = Entered::kNever, auto& call = real,
          typename... Arguments>
[[gnu::noinline]] auto wait_in(const void* object, Arguments... arguments) {
  return wait_here<kind, real, entered, call>(object, arguments...);
}

// For a lock that was found taken.
template <safe::WaitKind kind, auto& real, auto& real_try, int kBusy, typename Lock, typename... Arguments>
[[gnu::noinline]] int wait_for_lock(Lock* lock, Arguments... arguments) {
  if (!is_outside()) return real(lock, arguments...);
  const safe::Wait wait{kind, lock, reinterpret_cast<safe::Pc>(real), safe::caller_frame()};
  WaitBegin begin = begin_lock_wait(wait, may_be_tried_again(lock));
  int result = kBusy;
  for (int tries = 0; begin.may_look && result == kBusy && look_away(begin, tries); ++tries)
    result = real_try(lock);
  if (result == kBusy) {
    enter_lock_wait(begin, wait);
    result = real(lock, arguments...);
    pass_on_unrecoverable(lock, result);
  }
  end_wait(begin, wait, !is_refusal(result));
  return result;
}

// Whether the thread that is about to unlock `mutex` has kept others waiting. One that has locked it just
// now, past those who were woken for it, leaves a few microseconds of theirs to the next: on a lock that is
// taken again and again at once, to charge each would take longer than it has the lock.
[[nodiscard]] inline bool has_to_charge(const pthread_mutex_t* mutex) noexcept {
  if (!safe::contention_recorder.is_watching_locks()) return false;
  const bool is_due =
      wakes_nobody(mutex) ? safe::lock_waiters.may_be_due(mutex) : safe::lock_waiters.may_have(mutex);
  return is_due && is_private(mutex) && gives_back(mutex);
}

template <safe::WaitKind kind, auto& real, typename Lock>
[[gnu::noinline]] auto unlock_watched(Lock* lock) {
  if (!is_outside()) return real(lock);
  const safe::Wait unlock{kind, lock, reinterpret_cast<safe::Pc>(real), safe::caller_frame()};
  const safe::Charge charge = before_unlock(unlock);
  const auto result = real(lock);
  if (charge.nanos != 0) record_unlock(unlock, charge);
  return result;
}

// A thread that gives another one what it may wait for: a signal, a semaphore's unit.
template <auto& real, typename Object>
[[gnu::noinline]] auto wake_watched(Object* object) {
  if (is_outside()) {
    record_wake({safe::WaitKind::kNone, object, reinterpret_cast<safe::Pc>(real), safe::caller_frame()});
  }
  return real(object);
}

template <auto& real, typename Object>
[[gnu::always_inline]] inline auto wake_by(Object* object) {
  if (safe::contention_recorder.is_telling_holders()) [[unlikely]]
    return wake_watched<real>(object);
  return real(object);
}

// A wait that releases a mutex first, and takes it again out of our sight. What others have waited for the
// mutex is recorded before: the wait may never end.
template <auto& real, typename Cond, typename Mutex, typename... Arguments>
[[gnu::noinline]] auto wait_for_cond(Cond* cond, Mutex* mutex, Arguments... arguments) {
  if (!is_outside()) return real(cond, mutex, arguments...);
  const safe::StartFrame caller = safe::caller_frame();
  const auto function = reinterpret_cast<safe::Pc>(real);
  const safe::Wait unlock{safe::WaitKind::kMutex, mutex, function, caller};
  const safe::Wait wait{safe::WaitKind::kCond, cond, function, caller};
  if (has_to_charge(mutex_of(mutex))) {
    if (const safe::Charge charge = before_unlock(unlock); charge.nanos != 0) record_unlock(unlock, charge);
  }
  WaitBegin begin = begin_wait(wait, Entered::kWhileHoldersAreTold);
  const auto result = real(cond, mutex, arguments...);
  end_wait(begin, wait, !is_refusal(static_cast<int>(result)));
  return result;
}

}  // namespace profagent::hooks
