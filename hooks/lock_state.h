// What glibc's locks say about themselves: struct __pthread_mutex_s and struct __pthread_rwlock_arch_t, whose
// layouts are part of its ABI, and the semaphore of nptl/internaltypes.h. Only for one that the calling
// thread is about to use: it cannot be gone.
#pragma once

#include <ctime>

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "agent/safe/look.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"

namespace profagent::hooks {

namespace mutex_bits {
constexpr int kType = 3;
constexpr int kRobust = 16;
constexpr int kInherits = 32;
constexpr int kShared = 128;
constexpr int kNeverElided = 512;  // said by whoever asked for PTHREAD_MUTEX_NORMAL
}  // namespace mutex_bits

// Somebody has it, perhaps the calling thread.
[[nodiscard]] inline bool is_taken(const pthread_mutex_t* mutex) noexcept {
  return !safe::equals<0>(mutex->__data.__lock);
}

// Neither the kernel nor priorities nor other processes nor hardware transactions have a part in it.
[[nodiscard]] inline bool is_plain(const pthread_mutex_t* mutex) noexcept {
  return (mutex->__data.__kind & ~(mutex_bits::kType | mutex_bits::kNeverElided)) == 0;
}
// Whether a failed try costs no more than itself.
[[nodiscard]] inline bool may_be_tried_again(const pthread_mutex_t* mutex) noexcept {
  return is_plain(mutex);
}
[[nodiscard]] inline bool may_be_tried_again(const mtx_t* mutex) noexcept {
  return is_plain(reinterpret_cast<const pthread_mutex_t*>(mutex));
}
[[nodiscard]] inline bool may_be_tried_again(const pthread_rwlock_t* /*lock*/) noexcept {
  return true;
}

// Taken without a wait, and nobody has come since: its unlock will wake nobody, for those who wait sleep
// since before, or are on their way. Only libc's plain mutexes say so.
[[nodiscard]] inline bool wakes_nobody(const pthread_mutex_t* mutex) noexcept {
  constexpr int kTakenAlone = 1;
  return is_plain(mutex) && safe::equals<kTakenAlone>(mutex->__data.__lock);
}

// Whether who waits for the lock waits in this process: others' unlocks are not seen. glibc marks every
// robust mutex as shared; most are not.
[[nodiscard]] inline bool is_private(const pthread_mutex_t* mutex) noexcept {
  return (mutex->__data.__kind & (mutex_bits::kShared | mutex_bits::kRobust)) != mutex_bits::kShared;
}
[[nodiscard]] inline bool is_private(const pthread_rwlock_t* lock) noexcept {
  return lock->__data.__shared == 0;
}

// Whether an unlock will give the mutex back: not the inner one of a recursive mutex, nor that of a thread
// which does not own it and will be told so. Without a slot there is no telling, short of a system call that
// a filter may punish.
[[nodiscard]] inline bool gives_back(const pthread_mutex_t* mutex) noexcept {
  const int kind = mutex->__data.__kind;
  const int type = kind & mutex_bits::kType;
  const bool asks_owner = (kind & (mutex_bits::kRobust | mutex_bits::kInherits)) != 0 ||
                          type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK;
  if (!asks_owner) return true;
  const safe::ThreadSlot* slot = safe::threads.current_of_waiter();
  if (slot != nullptr && mutex->__data.__owner != slot->tid.load(std::memory_order_relaxed)) return false;
  return type != PTHREAD_MUTEX_RECURSIVE || mutex->__data.__count == 1;
}

// Asked, not tried: sem_wait() acts on a cancellation even when it has not to wait.
[[nodiscard]] inline bool has_units(const sem_t* semaphore) noexcept {
  return !safe::equals<0>(*reinterpret_cast<const int*>(semaphore));
}

// What libc's timed functions refuse, whether there is something to wait for or not, must not be had by
// trying.
[[nodiscard]] inline bool is_valid(const timespec& until) noexcept {
  return until.tv_nsec >= 0 && until.tv_nsec < safe::kNanosPerSecond;
}
[[nodiscard]] inline bool is_valid(clockid_t clock) noexcept {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
}

// C11's is the same under another name.
[[nodiscard]] inline pthread_mutex_t* mutex_of(pthread_mutex_t* mutex) noexcept {
  return mutex;
}
[[nodiscard]] inline pthread_mutex_t* mutex_of(mtx_t* mutex) noexcept {
  return reinterpret_cast<pthread_mutex_t*>(mutex);
}

}  // namespace profagent::hooks
