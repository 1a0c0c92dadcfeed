// Mutexes and read-write locks. One that is free costs a look at two words, and so does an unlock that nobody
// waits for.
#include <cerrno>

#include <threads.h>

#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

using safe::WaitKind;

namespace {

// A mutex that seemed to be taken, or any while waits are measured, so that none is missed. Only EBUSY says
// that it is taken: EOWNERDEAD has taken it.
template <auto& real, auto& real_try, int kBusy, typename Mutex, typename... Arguments>
[[gnu::always_inline]] inline int try_and_wait(Mutex* mutex, Arguments... arguments) {
  if (may_be_tried(state_of(mutex))) [[likely]]
    if (const int tried = real_try(mutex); tried != kBusy) [[likely]]
      return tried;
  return wait_for_lock<WaitKind::kMutex, real>(mutex, arguments...);
}

// One that looks free is locked at once: should another thread be faster, the wait shows as a futex'.
template <auto& real, auto& real_try, int kBusy, typename Mutex, typename... Arguments>
[[gnu::always_inline]] inline int lock_mutex(Mutex* mutex, Arguments... arguments) {
  if (safe::contention_recorder.is_timing() || is_taken(state_of(mutex))) [[unlikely]]
    return try_and_wait<real, real_try, kBusy>(mutex, arguments...);
  return real(mutex, arguments...);
}

template <auto& real, typename... Arguments>
[[gnu::always_inline]] inline int lock_pthread_mutex(pthread_mutex_t* mutex, Arguments... arguments) {
  return lock_mutex<real, real::pthread_mutex_trylock, EBUSY>(mutex, arguments...);
}

template <auto& real, typename Mutex>
[[gnu::noinline]] int unlock_and_charge(Mutex* mutex) {
  if (!gives_back(state_of(mutex))) return real(mutex);
  return unlock_watched<WaitKind::kMutex, real>(mutex);
}

template <auto& real, typename Mutex>
[[gnu::always_inline]] inline int unlock_mutex(Mutex* mutex) {
  if (safe::contention_recorder.is_watching_locks() && may_have_sleepers(state_of(mutex))) [[unlikely]]
    return unlock_and_charge<real>(mutex);
  return real(mutex);
}

template <auto& real, auto& real_try, typename... Arguments>
[[gnu::always_inline]] inline int lock_rwlock(pthread_rwlock_t* lock, Arguments... arguments) {
  if (const int tried = real_try(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real>(lock, arguments...);
}

int unlock_rwlock(pthread_rwlock_t* lock) {
  if (safe::contention_recorder.is_watching_locks() && may_have_sleepers(lock)) [[unlikely]]
    return unlock_watched<WaitKind::kRwlock, real::pthread_rwlock_unlock>(lock);
  return real::pthread_rwlock_unlock(lock);
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT(pthread_mutex_lock)
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  return lock_pthread_mutex<real::pthread_mutex_lock>(mutex);
}

PROFAGENT_EXPORT(pthread_mutex_timedlock)
int pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* until) {
  return lock_pthread_mutex<real::pthread_mutex_timedlock>(mutex, until);
}

PROFAGENT_EXPORT(pthread_mutex_clocklock)
int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
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
  return lock_rwlock<real::pthread_rwlock_rdlock, real::pthread_rwlock_tryrdlock>(lock);
}

PROFAGENT_EXPORT(pthread_rwlock_timedrdlock)
int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock, const timespec* until) {
  return lock_rwlock<real::pthread_rwlock_timedrdlock, real::pthread_rwlock_tryrdlock>(lock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_clockrdlock)
int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) {
  return lock_rwlock<real::pthread_rwlock_clockrdlock, real::pthread_rwlock_tryrdlock>(lock, clock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_wrlock)
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_wrlock, real::pthread_rwlock_trywrlock>(lock);
}

PROFAGENT_EXPORT(pthread_rwlock_timedwrlock)
int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock, const timespec* until) {
  return lock_rwlock<real::pthread_rwlock_timedwrlock, real::pthread_rwlock_trywrlock>(lock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_clockwrlock)
int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) {
  return lock_rwlock<real::pthread_rwlock_clockwrlock, real::pthread_rwlock_trywrlock>(lock, clock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_unlock)
int pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  return unlock_rwlock(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_rdlock)
int __pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_rdlock, real::pthread_rwlock_tryrdlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_wrlock)
int __pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  return lock_rwlock<real::pthread_rwlock_wrlock, real::pthread_rwlock_trywrlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_unlock)
int __pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  return unlock_rwlock(lock);
}

// C11: the same under other names, with answers of its own.
PROFAGENT_EXPORT(mtx_lock)
int mtx_lock(mtx_t* mutex) {
  return lock_mutex<real::mtx_lock, real::mtx_trylock, thrd_busy>(mutex);
}

PROFAGENT_EXPORT(mtx_timedlock)
int mtx_timedlock(mtx_t* mutex, const timespec* until) {
  return lock_mutex<real::mtx_timedlock, real::mtx_trylock, thrd_busy>(mutex, until);
}

PROFAGENT_EXPORT(mtx_unlock)
int mtx_unlock(mtx_t* mutex) {
  return unlock_mutex<real::mtx_unlock>(mutex);
}

}  // extern "C"

}  // namespace profagent::hooks
