// Robust mutexes: one that is free, a thousand times, one that a thread waits for, and an unlock by a thread
// that does not own it. Prints "NAME at_least at_most" for the one who keeps another waiting, in ns.
#include <errno.h>
#include <pthread.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t free_one;
static pthread_mutex_t lock;
static int tid;
static long long begin;

NOINLINE static void takes_what_is_free(void) {
  for (int i = 0; i < 1000; ++i) {
    pthread_mutex_lock(&free_one);
    pthread_mutex_unlock(&free_one);
  }
}

NOINLINE static void* waits(void* argument) {
  begin = now_ns();
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return argument;
}

NOINLINE static void* is_refused(void* argument) {
  return pthread_mutex_unlock(&lock) == EPERM ? NULL : argument;
}

NOINLINE static void gives_back(void) {
  pthread_mutex_unlock(&lock);
  END_OF_FRAME();
}

int main(void) {
  pthread_mutexattr_t attributes;
  pthread_t waiter;
  pthread_t stranger;
  void* wrong = NULL;
  char line[128];
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&free_one, &attributes);
  pthread_mutex_init(&lock, &attributes);
  takes_what_is_free();

  pthread_mutex_lock(&lock);
  pthread_create(&waiter, NULL, waits, NULL);
  await_sleep(&tid);
  const long long asleep = now_ns();
  sleep_ms(30);
  pthread_create(&stranger, NULL, is_refused, &tid);
  pthread_join(stranger, &wrong);
  if (wrong != NULL) say("no EPERM\n");
  sleep_ms(10);
  const long long before = now_ns();
  gives_back();
  snprintf(line, sizeof line, "gives_back %lld %lld\n", before - asleep, now_ns() - begin);
  say(line);
  pthread_join(waiter, NULL);
  serve_until_end();
  return 0;
}
