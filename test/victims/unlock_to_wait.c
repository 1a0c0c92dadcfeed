// A thread gives a lock back by waiting for a condition that never comes, after others have waited for the
// lock. Prints "waits_for_ever at_least at_most": what they have waited until then, in ns.
#include <pthread.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kWaiters = 2 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_t threads[kWaiters];
static int tids[kWaiters];
static long long begins[kWaiters];
static long long at_least;

NOINLINE static void* waits(void* argument) {
  const long i = (long)argument;
  begins[i] = now_ns();
  __atomic_store_n(&tids[i], own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return NULL;
}

NOINLINE static void* waits_for_ever(void* argument) {
  long long asleep[kWaiters];
  pthread_mutex_lock(&lock);
  for (long i = 0; i < kWaiters; ++i) {
    pthread_create(&threads[i], NULL, waits, (void*)i);
    await_sleep(&tids[i]);
    asleep[i] = now_ns();
  }
  sleep_ms(30);
  for (long i = 0; i < kWaiters; ++i) at_least += now_ns() - asleep[i];
  __atomic_store_n((int*)argument, 1, __ATOMIC_RELEASE);
  for (;;) pthread_cond_wait(&never, &lock);
  return argument;
}

int main(void) {
  pthread_t thread;
  char line[128];
  long long at_most = 0;
  int is_over = 0;
  pthread_create(&thread, NULL, waits_for_ever, &is_over);
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) sleep_ms(1);
  for (long i = 0; i < kWaiters; ++i) pthread_join(threads[i], NULL);
  for (long i = 0; i < kWaiters; ++i) at_most += now_ns() - begins[i];
  snprintf(line, sizeof line, "waits_for_ever %lld %lld\n", at_least, at_most);
  say(line);
  serve_until_end();
  return 0;
}
