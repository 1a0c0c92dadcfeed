// What glibc's mutexes say about themselves (struct __pthread_mutex_s, whose layout is part of its ABI). Only
// for a mutex that the calling thread is about to lock or unlock: it cannot be gone.
#pragma once

#include <pthread.h>
#include <threads.h>

#include "agent/safe/sys.h"

namespace profagent::hooks {

namespace mutex_bits {
constexpr int kKind = 3;
constexpr int kRobust = 16;
}  // namespace mutex_bits

// Somebody has it, perhaps the calling thread.
[[nodiscard]] inline bool is_taken(const pthread_mutex_t* mutex) noexcept {
  return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) != 0;
}

// Whether a thread may sleep until the caller, who has it, gives it back. A thread says so in the lock's word
// before it sleeps, by 2 or a high bit. One that only spins is not seen.
[[nodiscard]] inline bool may_have_sleepers(const pthread_mutex_t* mutex) noexcept {
  return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) != 1;
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

// C11's is the same under another name.
[[nodiscard]] inline const pthread_mutex_t* state_of(const pthread_mutex_t* mutex) noexcept {
  return mutex;
}
[[nodiscard]] inline const pthread_mutex_t* state_of(const mtx_t* mutex) noexcept {
  return reinterpret_cast<const pthread_mutex_t*>(mutex);
}

}  // namespace profagent::hooks
