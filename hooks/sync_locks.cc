// Mutexes and read-write locks. A mutex that is free costs a look at two words, an unlock that nobody waits
// for a look at one.
#include <cerrno>

#include <threads.h>

#include "hooks/entries.h"
#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/unrecoverable.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

using safe::WaitKind;

namespace {

// A try that did not get the mutex. Only EBUSY says that it is taken: EOWNERDEAD has taken it.
template <auto& real, auto& real_try, int kBusy, typename Mutex, typename... Arguments>
[[gnu::noinline]] int wait_after_try(Mutex* mutex, int tried, Arguments... arguments) {
  if (tried == kBusy) return wait_for_lock<WaitKind::kMutex, real, real_try, kBusy>(mutex, arguments...);
  if (tried == ENOTRECOVERABLE) give_back_unrecoverable(mutex_of(mutex));
  return tried;
}

// One that looks free is locked at once: should another thread be faster, the wait shows as a futex'. While
// waits are measured each is tried, so that none is missed.
template <auto& real, auto& real_try, int kBusy, typename Mutex, typename... Arguments>
[[gnu::always_inline]] inline int lock_mutex(Mutex* mutex, Arguments... arguments) {
  if (safe::contention_recorder.is_timing() || is_taken(mutex_of(mutex))) [[unlikely]] {
    const int tried = real_try(mutex);
    if (tried == 0) [[likely]]
      return 0;
    return wait_after_try<real, real_try, kBusy>(mutex, tried, arguments...);
  }
  return real(mutex, arguments...);
}

template <auto& real, typename... Arguments>
[[gnu::always_inline]] inline int lock_pthread_mutex(pthread_mutex_t* mutex, Arguments... arguments) {
  if (real::attempt_mutex != real::pthread_mutex_trylock) [[unlikely]]
    return real(mutex, arguments...);
  return lock_mutex<real, real::pthread_mutex_trylock, EBUSY>(mutex, arguments...);
}

template <auto& real, typename Mutex>
[[gnu::noinline]] int unlock_and_charge(Mutex* mutex) {
  if (!has_to_charge(mutex_of(mutex))) return real(mutex);
  return unlock_watched<WaitKind::kMutex, real>(mutex);
}

// While nobody watches locks, nobody is entered as a waiter for one.
template <auto& real, typename Mutex>
[[gnu::always_inline]] inline int unlock_mutex(Mutex* mutex) {
  if (safe::lock_waiters.is_anybody_waiting()) [[unlikely]]
    return unlock_and_charge<real>(mutex);
  return real(mutex);
}

// A read-write lock may be given no time at all.
bool is_valid(const timespec* until, clockid_t clock = CLOCK_REALTIME) {
  return hooks::is_valid(clock) && (until == nullptr || hooks::is_valid(*until));
}

// There is no telling from outside whether one is free for the caller, so each is tried.
template <auto& real, auto& real_try, auto& may_try, typename... Arguments>
[[gnu::always_inline]] inline int lock_rwlock(pthread_rwlock_t* lock, Arguments... arguments) {
  if (!safe::is_set(may_try)) [[unlikely]]
    return real(lock, arguments...);
  if (const int tried = real_try(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real, real_try, EBUSY>(lock, arguments...);
}

[[gnu::noinline]] int unlock_and_charge_rwlock(pthread_rwlock_t* lock) {
  if (!safe::contention_recorder.is_watching_locks() || !safe::lock_waiters.may_have(lock) ||
      !is_private(lock))
    return real::pthread_rwlock_unlock(lock);
  return unlock_watched<WaitKind::kRwlock, real::pthread_rwlock_unlock>(lock);
}

int unlock_rwlock(pthread_rwlock_t* lock) {
  if (safe::lock_waiters.is_anybody_waiting()) [[unlikely]]
    return unlock_and_charge_rwlock(lock);
  return real::pthread_rwlock_unlock(lock);
}

}  // namespace

extern "C" {

// Jumped to by pthread_mutex_lock(), so that its caller is the program's.
[[gnu::used, gnu::visibility("hidden")]] int profagent_wait_after_try(pthread_mutex_t* mutex, int tried) {
  return wait_after_try<real::pthread_mutex_lock, real::pthread_mutex_trylock, EBUSY>(mutex, tried);
}

// lock_mutex() as above, without what a compiler adds to keep a pointer over a call: of all hooks, this is
// the one that programs call most often.
PROFAGENT_EXPORT(pthread_mutex_lock)
__attribute__((naked)) int pthread_mutex_lock(pthread_mutex_t* /*mutex*/) {
  asm("cmpb $0, %[timing]\n\t"
      "jne 1f\n\t"
      "cmpl $0, (%%rdi)\n\t"
      "jne 1f\n\t"
      "jmp *%[lock]\n"
      "1:\n\t"
      "push %%rdi\n\t"
      ".cfi_adjust_cfa_offset 8\n\t"
      "call *%[attempt]\n\t"
      "pop %%rdi\n\t"
      ".cfi_adjust_cfa_offset -8\n\t"
      "test %%eax, %%eax\n\t"
      "jne 2f\n\t"
      "ret\n"
      "2:\n\t"
      "mov %%eax, %%esi\n\t"
      "jmp profagent_wait_after_try"
      :
      : [timing] "m"(safe::contention_recorder.timing), [lock] "m"(real::pthread_mutex_lock),
        [attempt] "m"(real::attempt_mutex));
}

PROFAGENT_EXPORT(pthread_mutex_timedlock)
int pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* until) {
  return lock_pthread_mutex<real::pthread_mutex_timedlock>(mutex, until);
}

PROFAGENT_EXPORT(pthread_mutex_clocklock)
int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  if (!hooks::is_valid(clock)) return real::pthread_mutex_clocklock(mutex, clock, until);
  return lock_pthread_mutex<real::pthread_mutex_clocklock>(mutex, clock, until);
}

PROFAGENT_EXPORT(pthread_mutex_unlock)
int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  return unlock_mutex<real::pthread_mutex_unlock>(mutex);
}

// Names that old libraries were linked with.
PROFAGENT_EXPORT(__pthread_mutex_lock)
int __pthread_mutex_lock(pthread_mutex_t* mutex) {
  return lock_pthread_mutex<real::pthread_mutex_lock>(mutex);
}

PROFAGENT_EXPORT(__pthread_mutex_unlock)
int __pthread_mutex_unlock(pthread_mutex_t* mutex) {
  return unlock_mutex<real::pthread_mutex_unlock>(mutex);
}

PROFAGENT_EXPORT(pthread_rwlock_rdlock)
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_rdlock, real::pthread_rwlock_tryrdlock, real::may_try_rdlock>(lock);
}

PROFAGENT_EXPORT(pthread_rwlock_timedrdlock)
int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock, const timespec* until) {
  if (!is_valid(until)) return real::pthread_rwlock_timedrdlock(lock, until);
  return lock_rwlock<real::pthread_rwlock_timedrdlock, real::pthread_rwlock_tryrdlock, real::may_try_rdlock>(
      lock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_clockrdlock)
int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) {
  if (!is_valid(until, clock)) return real::pthread_rwlock_clockrdlock(lock, clock, until);
  return lock_rwlock<real::pthread_rwlock_clockrdlock, real::pthread_rwlock_tryrdlock, real::may_try_rdlock>(
      lock, clock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_wrlock)
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_wrlock, real::pthread_rwlock_trywrlock, real::may_try_wrlock>(lock);
}

PROFAGENT_EXPORT(pthread_rwlock_timedwrlock)
int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock, const timespec* until) {
  if (!is_valid(until)) return real::pthread_rwlock_timedwrlock(lock, until);
  return lock_rwlock<real::pthread_rwlock_timedwrlock, real::pthread_rwlock_trywrlock, real::may_try_wrlock>(
      lock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_clockwrlock)
int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) {
  if (!is_valid(until, clock)) return real::pthread_rwlock_clockwrlock(lock, clock, until);
  return lock_rwlock<real::pthread_rwlock_clockwrlock, real::pthread_rwlock_trywrlock, real::may_try_wrlock>(
      lock, clock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_unlock)
int pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  return unlock_rwlock(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_rdlock)
int __pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_rdlock, real::pthread_rwlock_tryrdlock, real::may_try_rdlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_wrlock)
int __pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_wrlock, real::pthread_rwlock_trywrlock, real::may_try_wrlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_unlock)
int __pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  return unlock_rwlock(lock);
}

}  // extern "C"

// C11, under names that libraries have had for their own (entries.h).
namespace watched {

int mtx_lock(mtx_t* mutex) {
  if (!safe::is_set(real::may_try_mtx)) return real::mtx_lock(mutex);
  return lock_mutex<real::mtx_lock, real::mtx_trylock, thrd_busy>(mutex);
}

int mtx_timedlock(mtx_t* mutex, const timespec* until) {
  if (!safe::is_set(real::may_try_mtx)) return real::mtx_timedlock(mutex, until);
  return lock_mutex<real::mtx_timedlock, real::mtx_trylock, thrd_busy>(mutex, until);
}

int mtx_unlock(mtx_t* mutex) {
  return unlock_mutex<real::mtx_unlock>(mutex);
}

}  // namespace watched

}  // namespace profagent::hooks
