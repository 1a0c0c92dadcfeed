// Heavy traffic on locks, in which a circle can never arise, for so many seconds. Two threads cross: each
// waits for what the other has, in turns, with empty hands. Others take two locks of eight in their order,
// pass mutexes on to those that wait for them, wait on a condition, and join threads that need a lock to end.
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kLocks = 8, kOrderly = 4, kCrossing = 6 };
static pthread_mutex_t left = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t right = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t locks[kLocks];
static pthread_rwlock_t door = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t bell_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;
static long long end;

static int is_over(void) {
  return now_ns() > end;
}

// Mostly short, so that who waits and who holds changes while somebody looks.
NOINLINE void hold(pthread_mutex_t* lock) {
  pthread_mutex_lock(lock);
  const long long until = now_ns() + 20000;
  if (until % 8 == 0) sleep_ms(1);
  while (now_ns() < until) {
  }
  pthread_mutex_unlock(lock);
}

NOINLINE void* crosses(void* is_left) {
  while (!is_over()) {
    hold(is_left != NULL ? &left : &right);
    hold(is_left != NULL ? &right : &left);
  }
  return NULL;
}

NOINLINE void* keeps_order(void* seed) {
  unsigned int state = (unsigned int)(size_t)seed;
  while (!is_over()) {
    state = state * 1664525 + 1013904223;
    const unsigned int first = state >> 16 & 3;
    const unsigned int second = first + 1 + (state >> 20 & 3);
    pthread_mutex_lock(&locks[first]);
    pthread_rwlock_rdlock(&door);
    pthread_mutex_lock(&locks[second]);
    if ((state >> 24 & 15) == 0) sleep_ms(1);
    pthread_mutex_unlock(&locks[first]);
    pthread_mutex_unlock(&locks[second]);
    pthread_rwlock_unlock(&door);
  }
  return NULL;
}

NOINLINE void* writes(void* unused) {
  while (!is_over()) {
    pthread_rwlock_wrlock(&door);
    sleep_ms(1);
    pthread_rwlock_unlock(&door);
  }
  return unused;
}

NOINLINE void* waits_for_bell(void* unused) {
  pthread_mutex_lock(&bell_lock);
  while (!is_over()) pthread_cond_wait(&bell, &bell_lock);
  pthread_mutex_unlock(&bell_lock);
  return unused;
}

NOINLINE void* needs_left(void* unused) {
  hold(&left);
  return unused;
}

NOINLINE void* rings_and_joins(void* unused) {
  while (!is_over()) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, needs_left, NULL) != 0) _exit(5);
    pthread_join(thread, NULL);
    pthread_mutex_lock(&bell_lock);
    pthread_cond_broadcast(&bell);
    sleep_ms(1);
    pthread_mutex_unlock(&bell_lock);
  }
  // Who waits for the bell ends with it.
  pthread_mutex_lock(&bell_lock);
  pthread_cond_broadcast(&bell);
  pthread_mutex_unlock(&bell_lock);
  return unused;
}

int main(int argc, char** argv) {
  pthread_t threads[3 + kCrossing + kOrderly];
  int count = 0;
  end = now_ns() + (argc > 1 ? atoi(argv[1]) : 3) * 1000000000LL;
  for (int i = 0; i < kLocks; ++i) pthread_mutex_init(&locks[i], NULL);
  for (int i = 0; i < kCrossing; ++i)
    pthread_create(&threads[count++], NULL, crosses, i % 2 == 0 ? &left : NULL);
  pthread_create(&threads[count++], NULL, writes, NULL);
  pthread_create(&threads[count++], NULL, waits_for_bell, NULL);
  pthread_create(&threads[count++], NULL, rings_and_joins, NULL);
  for (size_t i = 0; i < kOrderly; ++i) pthread_create(&threads[count++], NULL, keeps_order, (void*)(i + 1));
  say("ready\n");
  for (int i = 0; i < count; ++i) pthread_join(threads[i], NULL);
  say("traffic over\n");
  char command[16];
  while (await_command(command, sizeof command)) say("done\n");
  return 0;
}
