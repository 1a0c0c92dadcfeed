// A preloaded library behind the agent that stands in for some of libc's waits, as those do that change time
// or networks: adds nothing. Of locks it has the lock and the unlock, but not the try, and says at the end
// when it has not been told of all.
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/file.h>
#include <threads.h>

#include "test/victims/kit.h"

int poll(struct pollfd* entries, nfds_t count, int timeout) {
  return ((int (*)(struct pollfd*, nfds_t, int))dlsym(RTLD_NEXT, "poll"))(entries, count, timeout);
}

int flock(int descriptor, int operation) {
  return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(descriptor, operation);
}

// The kinds of locks of which it has the lock and what gives it back.
enum { kMutex, kRwlock, kMtx, kUnits, kKinds };
static int locked[kKinds];
static int unlocked[kKinds];

#define STAND_IN(counts, kind, name, type)                    \
  int name(type* object) {                                    \
    __atomic_fetch_add(&(counts)[kind], 1, __ATOMIC_RELAXED); \
    return ((int (*)(type*))dlsym(RTLD_NEXT, #name))(object); \
  }

STAND_IN(locked, kMutex, pthread_mutex_lock, pthread_mutex_t)
STAND_IN(unlocked, kMutex, pthread_mutex_unlock, pthread_mutex_t)
STAND_IN(locked, kRwlock, pthread_rwlock_rdlock, pthread_rwlock_t)
STAND_IN(locked, kRwlock, pthread_rwlock_wrlock, pthread_rwlock_t)
STAND_IN(unlocked, kRwlock, pthread_rwlock_unlock, pthread_rwlock_t)
STAND_IN(locked, kMtx, mtx_lock, mtx_t)
STAND_IN(unlocked, kMtx, mtx_unlock, mtx_t)
STAND_IN(locked, kUnits, sem_wait, sem_t)
STAND_IN(unlocked, kUnits, sem_post, sem_t)

__attribute__((destructor)) static void compare(void) {
  for (int kind = 0; kind < kKinds; ++kind) {
    if (locked[kind] == 0) say("locks are not seen\n");
    if (locked[kind] != unlocked[kind]) say("locks are not paired\n");
  }
}
