// A preloaded library behind the agent that stands in for some of libc's waits, as those do that change time
// or networks: adds nothing. Of mutexes it has the lock and the unlock, and says at the end when it has not
// been told of all.
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sys/file.h>

#include "test/victims/kit.h"

int poll(struct pollfd* entries, nfds_t count, int timeout) {
  return ((int (*)(struct pollfd*, nfds_t, int))dlsym(RTLD_NEXT, "poll"))(entries, count, timeout);
}

int flock(int descriptor, int operation) {
  return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(descriptor, operation);
}

static int locked;
static int unlocked;

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  __atomic_fetch_add(&locked, 1, __ATOMIC_RELAXED);
  return ((int (*)(pthread_mutex_t*))dlsym(RTLD_NEXT, "pthread_mutex_lock"))(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  __atomic_fetch_add(&unlocked, 1, __ATOMIC_RELAXED);
  return ((int (*)(pthread_mutex_t*))dlsym(RTLD_NEXT, "pthread_mutex_unlock"))(mutex);
}

__attribute__((destructor)) static void compare(void) {
  if (locked == 0) say("locks are not seen\n");
  if (locked != unlocked) say("locks are not paired\n");
}
