// Repairs what libc leaves behind at a robust mutex that cannot be recovered.
#pragma once

#include <cerrno>

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "agent/safe/sys.h"
#include "hooks/lock_state.h"

namespace profagent::hooks {

// libc's robust mutexes wait as if processes shared them.
inline void wake_one(unsigned int* word) noexcept {
  safe::sys::call(SYS_futex, safe::sys::address_of(word), FUTEX_WAKE, 1);
}

// glibc's pthread_mutex_trylock() on a robust mutex that cannot be recovered answers ENOTRECOVERABLE but
// leaves it taken by the calling thread (so in 2.36, and no release is known where not): the next lock()
// would wait for ever. After such an answer: gives it back, as pthread_mutex_lock() does itself. Does nothing
// where there is nothing to give back. Keeps errno.
void give_back_unrecoverable(pthread_mutex_t* mutex) noexcept;

// After a lock that was waited for. glibc's pthread_mutex_lock() gives such a mutex back before it answers
// ENOTRECOVERABLE, but takes a word with FUTEX_WAITERS for a negative number, and wakes nobody (2.36): the
// next waiter would sleep for ever. Keeps errno.
inline void pass_on_unrecoverable(pthread_mutex_t* mutex, int answer) noexcept {
  if (answer != ENOTRECOVERABLE || (mutex->__data.__kind & mutex_bits::kInherits) != 0) return;
  wake_one(reinterpret_cast<unsigned int*>(&mutex->__data.__lock));
}
// These are never robust.
inline void pass_on_unrecoverable(mtx_t* /*mutex*/, int /*answer*/) noexcept {}
inline void pass_on_unrecoverable(pthread_rwlock_t* /*lock*/, int /*answer*/) noexcept {}

}  // namespace profagent::hooks
