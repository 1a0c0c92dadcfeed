// Repairs what libc's try leaves behind.
#pragma once

#include <pthread.h>

namespace profagent::hooks {

// glibc's pthread_mutex_trylock() on a robust mutex that cannot be recovered answers ENOTRECOVERABLE but
// leaves it taken by the calling thread (so in 2.36, and no release is known where not): the next lock()
// would wait for ever. After such an answer: gives it back, as pthread_mutex_lock() does itself. Does nothing
// where there is nothing to give back. Keeps errno.
void give_back_unrecoverable(pthread_mutex_t* mutex) noexcept;

}  // namespace profagent::hooks
