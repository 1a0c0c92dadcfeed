#include "hooks/unrecoverable.h"

#include "hooks/lock_state.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

// As libc notes it in every mutex of this type: a system call might be one that a filter punishes.
unsigned int own_tid() noexcept {
  pthread_mutex_t own = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
  if (real::pthread_mutex_trylock(&own) != 0) return 0;
  const int tid = own.__data.__owner;
  real::pthread_mutex_unlock(&own);
  return static_cast<unsigned int>(tid);
}

}  // namespace

void give_back_unrecoverable(pthread_mutex_t* mutex) noexcept {
  // One that inherits priorities libc gives back.
  if ((mutex->__data.__kind & mutex_bits::kInherits) != 0) return;
  auto* word = reinterpret_cast<unsigned int*>(&mutex->__data.__lock);
  // Nobody else changes it while this thread has it, but to say that he waits.
  const unsigned int holder = __atomic_load_n(word, __ATOMIC_RELAXED) & FUTEX_TID_MASK;
  if (holder == 0 || holder != own_tid()) return;
  const unsigned int left = __atomic_exchange_n(word, 0, __ATOMIC_RELEASE);
  if ((left & FUTEX_WAITERS) != 0) wake_one(word);
}

}  // namespace profagent::hooks
