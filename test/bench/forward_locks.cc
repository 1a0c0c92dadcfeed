// The least that a preloaded library can do to a mutex: lock and unlock, passed on through a pointer. As
// forward.cc, a yardstick.
#include <dlfcn.h>
#include <pthread.h>

#define EXPORTED extern "C" [[gnu::visibility("default")]]

namespace {

using Call = int (*)(pthread_mutex_t*);

int first_lock(pthread_mutex_t* mutex);
int first_unlock(pthread_mutex_t* mutex);

// Each starts at a function that resolves both, so that a call is one load and one jump.
Call real_lock = first_lock;
Call real_unlock = first_unlock;

[[gnu::constructor]] void resolve() {
  real_unlock = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "pthread_mutex_unlock"));
  real_lock = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
}

int first_lock(pthread_mutex_t* mutex) {
  resolve();
  return real_lock(mutex);
}

int first_unlock(pthread_mutex_t* mutex) {
  resolve();
  return real_unlock(mutex);
}

}  // namespace

EXPORTED int pthread_mutex_lock(pthread_mutex_t* mutex) {
  return real_lock(mutex);
}

EXPORTED int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  return real_unlock(mutex);
}
