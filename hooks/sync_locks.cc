// Mutexes and read-write locks. A lock is tried first, so that one that is free costs no more than that; an
// unlock costs the look at one word, as long as nobody asks who waits.
//
// Only EBUSY says that the lock is taken: EOWNERDEAD has taken it.
#include <threads.h>

#include "agent/safe/sys.h"
#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

using safe::WaitKind;

namespace {

// glibc's pthread_mutex_t (struct __pthread_mutex_s): the kind's low bits, and the one of robust mutexes.
constexpr int kKindMask = 3;
constexpr int kRobust = 16;

// glibc 2.36's pthread_mutex_trylock() on a robust mutex that cannot be recovered answers so, but leaves it
// taken: the next lock() would wait for ever. So a robust one is not tried.
bool may_be_tried(const pthread_mutex_t* mutex) {
  return (mutex->__data.__kind & kRobust) == 0;
}

// A lock of the program's that cannot be had at once.
int try_mutex(pthread_mutex_t* mutex) {
  return may_be_tried(mutex) ? real::pthread_mutex_trylock(mutex) : EBUSY;
}

// Whether an unlock will give the mutex back: not the inner one of a recursive mutex, nor that of a thread
// which does not own it and will be told so.
bool gives_back(const pthread_mutex_t* mutex) {
  const int kind = mutex->__data.__kind & kKindMask;
  if (kind != PTHREAD_MUTEX_RECURSIVE && kind != PTHREAD_MUTEX_ERRORCHECK) return true;
  if (mutex->__data.__owner != safe::sys::gettid()) return false;
  return kind != PTHREAD_MUTEX_RECURSIVE || mutex->__data.__count == 1;
}

int unlock_mutex(pthread_mutex_t* mutex) {
  if (safe::contention_recorder.is_watching_locks() && gives_back(mutex)) [[unlikely]]
    return unlock_watched<WaitKind::kMutex, real::pthread_mutex_unlock>(mutex);
  return real::pthread_mutex_unlock(mutex);
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT(pthread_mutex_lock)
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  if (const int tried = try_mutex(mutex); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kMutex, real::pthread_mutex_lock>(mutex);
}

PROFAGENT_EXPORT(pthread_mutex_timedlock)
int pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* until) {
  if (const int tried = try_mutex(mutex); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kMutex, real::pthread_mutex_timedlock>(mutex, until);
}

PROFAGENT_EXPORT(pthread_mutex_clocklock)
int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  if (const int tried = try_mutex(mutex); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kMutex, real::pthread_mutex_clocklock>(mutex, clock, until);
}

PROFAGENT_EXPORT(pthread_mutex_unlock)
int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  return unlock_mutex(mutex);
}

// Names that old libraries were linked with.
PROFAGENT_EXPORT(__pthread_mutex_lock)
int __pthread_mutex_lock(pthread_mutex_t* mutex) {
  if (const int tried = try_mutex(mutex); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kMutex, real::pthread_mutex_lock>(mutex);
}

PROFAGENT_EXPORT(__pthread_mutex_unlock)
int __pthread_mutex_unlock(pthread_mutex_t* mutex) {
  return unlock_mutex(mutex);
}

PROFAGENT_EXPORT(pthread_rwlock_rdlock)
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  if (const int tried = real::pthread_rwlock_tryrdlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_rdlock>(lock);
}

PROFAGENT_EXPORT(pthread_rwlock_timedrdlock)
int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock, const timespec* until) {
  if (const int tried = real::pthread_rwlock_tryrdlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_timedrdlock>(lock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_clockrdlock)
int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) {
  if (const int tried = real::pthread_rwlock_tryrdlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_clockrdlock>(lock, clock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_wrlock)
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  if (const int tried = real::pthread_rwlock_trywrlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_wrlock>(lock);
}

PROFAGENT_EXPORT(pthread_rwlock_timedwrlock)
int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock, const timespec* until) {
  if (const int tried = real::pthread_rwlock_trywrlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_timedwrlock>(lock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_clockwrlock)
int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* until) {
  if (const int tried = real::pthread_rwlock_trywrlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_clockwrlock>(lock, clock, until);
}

PROFAGENT_EXPORT(pthread_rwlock_unlock)
int pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  return unlock_in<WaitKind::kRwlock, real::pthread_rwlock_unlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_rdlock)
int __pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  if (const int tried = real::pthread_rwlock_tryrdlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_rdlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_wrlock)
int __pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  if (const int tried = real::pthread_rwlock_trywrlock(lock); tried != EBUSY) return tried;
  return wait_for_lock<WaitKind::kRwlock, real::pthread_rwlock_wrlock>(lock);
}

PROFAGENT_EXPORT(__pthread_rwlock_unlock)
int __pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  return unlock_in<WaitKind::kRwlock, real::pthread_rwlock_unlock>(lock);
}

// C11: the same under other names, with answers of its own.
PROFAGENT_EXPORT(mtx_lock)
int mtx_lock(mtx_t* mutex) {
  if (const int tried = real::mtx_trylock(mutex); tried != thrd_busy) return tried;
  return wait_for_lock<WaitKind::kMutex, real::mtx_lock>(mutex);
}

PROFAGENT_EXPORT(mtx_timedlock)
int mtx_timedlock(mtx_t* mutex, const timespec* until) {
  if (const int tried = real::mtx_trylock(mutex); tried != thrd_busy) return tried;
  return wait_for_lock<WaitKind::kMutex, real::mtx_timedlock>(mutex, until);
}

PROFAGENT_EXPORT(mtx_unlock)
int mtx_unlock(mtx_t* mutex) {
  return unlock_in<WaitKind::kMutex, real::mtx_unlock>(mutex);
}

}  // extern "C"

}  // namespace profagent::hooks
