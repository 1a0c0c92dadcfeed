// Waits once, for 100 ms, in every call of libc that can: in a function calls_X for the call X; the one that
// ends the wait does it in ends_X. Prints for each "X at_least at_most" in ns: how long the thread is known
// to have waited, and how long its call took.
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

struct Place {
  const struct Call* call;
  pthread_mutex_t mutex;
  pthread_rwlock_t rwlock;
  pthread_cond_t cond;
  mtx_t mtx;
  cnd_t cnd;
  sem_t semaphore;
  pthread_barrier_t barrier;
  pthread_t thread;
  thrd_t thrd;
  int word;
  int tid;
  long long begin;
  long long end;
  long long known;
};

struct Call {
  const char* name;
  void (*prepare)(struct Place*);
  void (*wait)(struct Place*);
  void (*release)(struct Place*);
};

static void begin(struct Place* place) {
  place->begin = now_ns();
  __atomic_store_n(&place->tid, own_tid(), __ATOMIC_RELEASE);
}

#define CALL(name, what)                                   \
  NOINLINE static void calls_##name(struct Place* place) { \
    begin(place);                                          \
    what;                                                  \
    END_OF_FRAME();                                        \
  }
#define ENDS(name, what)                                  \
  NOINLINE static void ends_##name(struct Place* place) { \
    what;                                                 \
    END_OF_FRAME();                                       \
  }

static struct timespec real_end;
static struct timespec steady_end;

// As old libraries were linked.
int old_lock(pthread_mutex_t* mutex);
int old_unlock(pthread_mutex_t* mutex);
__asm__(".symver old_lock, __pthread_mutex_lock@GLIBC_2.2.5");
__asm__(".symver old_unlock, __pthread_mutex_unlock@GLIBC_2.2.5");

static void lock_mutex(struct Place* p) {
  pthread_mutex_lock(&p->mutex);
}
CALL(pthread_mutex_lock, pthread_mutex_lock(&place->mutex))
ENDS(pthread_mutex_lock, pthread_mutex_unlock(&place->mutex))
CALL(pthread_mutex_timedlock, pthread_mutex_timedlock(&place->mutex, &real_end))
ENDS(pthread_mutex_timedlock, pthread_mutex_unlock(&place->mutex))
CALL(pthread_mutex_clocklock, pthread_mutex_clocklock(&place->mutex, CLOCK_MONOTONIC, &steady_end))
ENDS(pthread_mutex_clocklock, pthread_mutex_unlock(&place->mutex))
CALL(old_mutex_lock, old_lock(&place->mutex))
ENDS(old_mutex_lock, old_unlock(&place->mutex))

// Past any linkage: as plug-ins and languages with their own loaders find it.
static inline int call_found(const char* name, pthread_mutex_t* mutex) {
  int (*function)(pthread_mutex_t*) = (int (*)(pthread_mutex_t*))dlsym(RTLD_DEFAULT, name);
  return function(mutex);
}
CALL(found_mutex_lock, call_found("pthread_mutex_lock", &place->mutex))
ENDS(found_mutex_lock, call_found("pthread_mutex_unlock", &place->mutex))

static void lock_to_write(struct Place* p) {
  pthread_rwlock_wrlock(&p->rwlock);
}
static void lock_to_read(struct Place* p) {
  pthread_rwlock_rdlock(&p->rwlock);
}
CALL(pthread_rwlock_rdlock, pthread_rwlock_rdlock(&place->rwlock))
ENDS(pthread_rwlock_rdlock, pthread_rwlock_unlock(&place->rwlock))
CALL(pthread_rwlock_timedrdlock, pthread_rwlock_timedrdlock(&place->rwlock, &real_end))
ENDS(pthread_rwlock_timedrdlock, pthread_rwlock_unlock(&place->rwlock))
CALL(pthread_rwlock_clockrdlock, pthread_rwlock_clockrdlock(&place->rwlock, CLOCK_MONOTONIC, &steady_end))
ENDS(pthread_rwlock_clockrdlock, pthread_rwlock_unlock(&place->rwlock))
CALL(pthread_rwlock_wrlock, pthread_rwlock_wrlock(&place->rwlock))
ENDS(pthread_rwlock_wrlock, pthread_rwlock_unlock(&place->rwlock))
CALL(pthread_rwlock_timedwrlock, pthread_rwlock_timedwrlock(&place->rwlock, &real_end))
ENDS(pthread_rwlock_timedwrlock, pthread_rwlock_unlock(&place->rwlock))
CALL(pthread_rwlock_clockwrlock, pthread_rwlock_clockwrlock(&place->rwlock, CLOCK_MONOTONIC, &steady_end))
ENDS(pthread_rwlock_clockwrlock, pthread_rwlock_unlock(&place->rwlock))

static void lock_mtx(struct Place* p) {
  mtx_lock(&p->mtx);
}
CALL(mtx_lock, mtx_lock(&place->mtx))
ENDS(mtx_lock, mtx_unlock(&place->mtx))
CALL(mtx_timedlock, mtx_timedlock(&place->mtx, &real_end))
ENDS(mtx_timedlock, mtx_unlock(&place->mtx))

static void nothing(struct Place* p) {
  (void)p;
}
static void signal_cond(struct Place* p) {
  pthread_mutex_lock(&p->mutex);
  pthread_cond_signal(&p->cond);
  pthread_mutex_unlock(&p->mutex);
}
NOINLINE static void calls_pthread_cond_wait(struct Place* place) {
  pthread_mutex_lock(&place->mutex);
  begin(place);
  pthread_cond_wait(&place->cond, &place->mutex);
  pthread_mutex_unlock(&place->mutex);
}
ENDS(pthread_cond_wait, signal_cond(place))
NOINLINE static void calls_pthread_cond_timedwait(struct Place* place) {
  pthread_mutex_lock(&place->mutex);
  begin(place);
  pthread_cond_timedwait(&place->cond, &place->mutex, &real_end);
  pthread_mutex_unlock(&place->mutex);
}
ENDS(pthread_cond_timedwait, signal_cond(place))
NOINLINE static void calls_pthread_cond_clockwait(struct Place* place) {
  pthread_mutex_lock(&place->mutex);
  begin(place);
  pthread_cond_clockwait(&place->cond, &place->mutex, CLOCK_MONOTONIC, &steady_end);
  pthread_mutex_unlock(&place->mutex);
}
ENDS(pthread_cond_clockwait, signal_cond(place))

static void signal_cnd(struct Place* p) {
  mtx_lock(&p->mtx);
  cnd_signal(&p->cnd);
  mtx_unlock(&p->mtx);
}
NOINLINE static void calls_cnd_wait(struct Place* place) {
  mtx_lock(&place->mtx);
  begin(place);
  cnd_wait(&place->cnd, &place->mtx);
  mtx_unlock(&place->mtx);
}
ENDS(cnd_wait, signal_cnd(place))
NOINLINE static void calls_cnd_timedwait(struct Place* place) {
  mtx_lock(&place->mtx);
  begin(place);
  cnd_timedwait(&place->cnd, &place->mtx, &real_end);
  mtx_unlock(&place->mtx);
}
ENDS(cnd_timedwait, signal_cnd(place))

CALL(sem_wait, sem_wait(&place->semaphore))
ENDS(sem_wait, sem_post(&place->semaphore))
CALL(sem_timedwait, sem_timedwait(&place->semaphore, &real_end))
ENDS(sem_timedwait, sem_post(&place->semaphore))
CALL(sem_clockwait, sem_clockwait(&place->semaphore, CLOCK_MONOTONIC, &steady_end))
ENDS(sem_clockwait, sem_post(&place->semaphore))

CALL(pthread_barrier_wait, pthread_barrier_wait(&place->barrier))
ENDS(pthread_barrier_wait, pthread_barrier_wait(&place->barrier))

static void* live_until_posted(void* argument) {
  sem_wait(&((struct Place*)argument)->semaphore);
  return NULL;
}
static int live_until_posted_c11(void* argument) {
  live_until_posted(argument);
  return 0;
}
static void start_thread(struct Place* p) {
  pthread_create(&p->thread, NULL, live_until_posted, p);
}
static void start_thrd(struct Place* p) {
  thrd_create(&p->thrd, live_until_posted_c11, p);
}
CALL(pthread_join, pthread_join(place->thread, NULL))
ENDS(pthread_join, sem_post(&place->semaphore))
CALL(pthread_timedjoin_np, pthread_timedjoin_np(place->thread, NULL, &real_end))
ENDS(pthread_timedjoin_np, sem_post(&place->semaphore))
CALL(pthread_clockjoin_np, pthread_clockjoin_np(place->thread, NULL, CLOCK_MONOTONIC, &steady_end))
ENDS(pthread_clockjoin_np, sem_post(&place->semaphore))
CALL(thrd_join, thrd_join(place->thrd, NULL))
ENDS(thrd_join, sem_post(&place->semaphore))

CALL(syscall, syscall(SYS_futex, &place->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0))
ENDS(syscall, syscall(SYS_futex, &place->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0))

#define ROW(name, prepare) \
  { #name, prepare, calls_##name, ends_##name }
static const struct Call kCalls[] = {
    ROW(pthread_mutex_lock, lock_mutex),
    ROW(pthread_mutex_timedlock, lock_mutex),
    ROW(pthread_mutex_clocklock, lock_mutex),
    ROW(old_mutex_lock, lock_mutex),
    ROW(found_mutex_lock, lock_mutex),
    ROW(pthread_rwlock_rdlock, lock_to_write),
    ROW(pthread_rwlock_timedrdlock, lock_to_write),
    ROW(pthread_rwlock_clockrdlock, lock_to_write),
    ROW(pthread_rwlock_wrlock, lock_to_read),
    ROW(pthread_rwlock_timedwrlock, lock_to_read),
    ROW(pthread_rwlock_clockwrlock, lock_to_write),
    ROW(mtx_lock, lock_mtx),
    ROW(mtx_timedlock, lock_mtx),
    ROW(pthread_cond_wait, nothing),
    ROW(pthread_cond_timedwait, nothing),
    ROW(pthread_cond_clockwait, nothing),
    ROW(cnd_wait, nothing),
    ROW(cnd_timedwait, nothing),
    ROW(sem_wait, nothing),
    ROW(sem_timedwait, nothing),
    ROW(sem_clockwait, nothing),
    ROW(pthread_barrier_wait, nothing),
    ROW(pthread_join, start_thread),
    ROW(pthread_timedjoin_np, start_thread),
    ROW(pthread_clockjoin_np, start_thread),
    ROW(thrd_join, start_thrd),
    ROW(syscall, nothing),
};
enum { kCount = sizeof kCalls / sizeof kCalls[0] };
static struct Place places[kCount];

static void* wait_here(void* argument) {
  struct Place* place = argument;
  place->call->wait(place);
  place->end = now_ns();
  return NULL;
}

static void* end_wait_of(void* argument) {
  struct Place* place = argument;
  pthread_mutex_init(&place->mutex, NULL);
  pthread_rwlock_init(&place->rwlock, NULL);
  pthread_cond_init(&place->cond, NULL);
  mtx_init(&place->mtx, mtx_timed);
  cnd_init(&place->cnd);
  sem_init(&place->semaphore, 0, 0);
  pthread_barrier_init(&place->barrier, NULL, 2);
  place->call->prepare(place);
  pthread_t waiter;
  pthread_create(&waiter, NULL, wait_here, place);
  await_sleep(&place->tid);
  const long long asleep = now_ns();
  sleep_ms(100);
  place->known = now_ns() - asleep;
  place->call->release(place);
  pthread_join(waiter, NULL);
  return NULL;
}

int main(void) {
  pthread_t threads[kCount];
  real_end = in_a_minute(CLOCK_REALTIME);
  steady_end = in_a_minute(CLOCK_MONOTONIC);
  for (int i = 0; i < kCount; ++i) {
    places[i].call = &kCalls[i];
    if (pthread_create(&threads[i], NULL, end_wait_of, &places[i]) != 0) return 2;
  }
  for (int i = 0; i < kCount; ++i) {
    char line[128];
    pthread_join(threads[i], NULL);
    snprintf(line, sizeof line, "%s %lld %lld\n", kCalls[i].name, places[i].known,
             places[i].end - places[i].begin);
    say(line);
  }
  serve_until_end();
  return 0;
}
