// What glibc's locks say about themselves: struct __pthread_mutex_s, whose layout is part of its ABI, struct
// __pthread_rwlock_arch_t as it is used since glibc 2.25, and the semaphore of nptl/internaltypes.h. Only for
// one that the calling thread is about to use: it cannot be gone.
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "agent/safe/look.h"
#include "agent/safe/sys.h"

namespace profagent::hooks {

namespace mutex_bits {
constexpr int kKind = 3;
constexpr int kRobust = 16;
}  // namespace mutex_bits

// Somebody has it, perhaps the calling thread.
[[nodiscard]] inline bool is_taken(const pthread_mutex_t* mutex) noexcept {
  return !safe::equals<0>(mutex->__data.__lock);
}

// Whether a thread may sleep until the caller, who has it, gives it back. A thread says so in the lock's word
// before it sleeps, by 2 or a high bit. One that only spins is not seen.
[[nodiscard]] inline bool may_have_sleepers(const pthread_mutex_t* mutex) noexcept {
  return !safe::equals<1>(mutex->__data.__lock);
}

// glibc 2.36's pthread_mutex_trylock() on a robust mutex that cannot be recovered answers so, but leaves it
// taken: the next lock() would wait for ever. So a robust one is not tried.
[[nodiscard]] inline bool may_be_tried(const pthread_mutex_t* mutex) noexcept {
  return (mutex->__data.__kind & mutex_bits::kRobust) == 0;
}

// Whether an unlock will give the mutex back: not the inner one of a recursive mutex, nor that of a thread
// which does not own it and will be told so.
[[nodiscard]] inline bool gives_back(const pthread_mutex_t* mutex) noexcept {
  const int kind = mutex->__data.__kind & mutex_bits::kKind;
  if (kind != PTHREAD_MUTEX_RECURSIVE && kind != PTHREAD_MUTEX_ERRORCHECK) return true;
  if (mutex->__data.__owner != safe::sys::gettid()) return false;
  return kind != PTHREAD_MUTEX_RECURSIVE || mutex->__data.__count == 1;
}

// The same of a read-write lock: who sleeps has marked one of the words that it may sleep at.
[[nodiscard]] inline bool may_have_sleepers(const pthread_rwlock_t* lock) noexcept {
  constexpr unsigned kFutexUsed = 2;
  constexpr unsigned kReadersWait = 4;
  const unsigned futexes = __atomic_load_n(&lock->__data.__wrphase_futex, __ATOMIC_RELAXED) |
                           __atomic_load_n(&lock->__data.__writers_futex, __ATOMIC_RELAXED);
  const unsigned readers = __atomic_load_n(&lock->__data.__readers, __ATOMIC_RELAXED);
  return ((futexes & kFutexUsed) | (readers & kReadersWait)) != 0;
}

// Asked, not tried: sem_wait() acts on a cancellation even when it has not to wait.
[[nodiscard]] inline bool has_units(const sem_t* semaphore) noexcept {
  return !safe::equals<0>(*reinterpret_cast<const int*>(semaphore));
}

// C11's is the same under another name.
[[nodiscard]] inline const pthread_mutex_t* state_of(const pthread_mutex_t* mutex) noexcept {
  return mutex;
}
[[nodiscard]] inline const pthread_mutex_t* state_of(const mtx_t* mutex) noexcept {
  return reinterpret_cast<const pthread_mutex_t*>(mutex);
}

}  // namespace profagent::hooks
