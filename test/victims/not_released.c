// Calls that look as if they gave a lock back, or waited for one, and do neither, while another thread really
// waits for it. Prints "NAME at_least at_most" for the ones that do give it back.
#include <errno.h>
#include <pthread.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t checking = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int tid;
static long long begin;

NOINLINE static void* waits(void* mutex) {
  begin = now_ns();
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(mutex);
  pthread_mutex_unlock(mutex);
  return NULL;
}

NOINLINE static void unlocks_inner(void) {
  pthread_mutex_unlock(&recursive);
  END_OF_FRAME();
}
NOINLINE static void unlocks_outer(void) {
  pthread_mutex_unlock(&recursive);
  END_OF_FRAME();
}
NOINLINE static void* unlocks_of_another(void* argument) {
  return pthread_mutex_unlock(&checking) == EPERM ? NULL : argument;
}
NOINLINE static void* waits_without_lock(void* argument) {
  return pthread_cond_wait(&cond, &checking) == EPERM ? NULL : argument;
}
NOINLINE static void locks_again(void) {
  if (pthread_mutex_lock(&checking) != EDEADLK) say("no EDEADLK\n");
}
NOINLINE static void unlocks_own(void) {
  pthread_mutex_unlock(&checking);
  END_OF_FRAME();
}

static void in_thread(void* (*function)(void*)) {
  pthread_t thread;
  void* wrong = NULL;
  pthread_create(&thread, NULL, function, &tid);
  pthread_join(thread, &wrong);
  if (wrong != NULL) say("no EPERM\n");
}

static pthread_t start_waiter(pthread_mutex_t* mutex, long long* asleep) {
  pthread_t thread;
  tid = 0;
  pthread_create(&thread, NULL, waits, mutex);
  await_sleep(&tid);
  *asleep = now_ns();
  return thread;
}

static void tell(const char* name, long long asleep, long long before) {
  char line[128];
  snprintf(line, sizeof line, "%s %lld %lld\n", name, before - asleep, now_ns() - begin);
  say(line);
}

int main(void) {
  long long asleep;
  pthread_mutex_lock(&recursive);
  pthread_mutex_lock(&recursive);
  pthread_t waiter = start_waiter(&recursive, &asleep);
  sleep_ms(30);
  unlocks_inner();
  sleep_ms(10);
  long long before = now_ns();
  unlocks_outer();
  tell("unlocks_outer", asleep, before);
  pthread_join(waiter, NULL);

  pthread_mutex_lock(&checking);
  waiter = start_waiter(&checking, &asleep);
  sleep_ms(30);
  in_thread(unlocks_of_another);
  sleep_ms(10);
  in_thread(waits_without_lock);
  sleep_ms(10);
  locks_again();
  before = now_ns();
  unlocks_own();
  tell("unlocks_own", asleep, before);
  pthread_join(waiter, NULL);
  serve_until_end();
  return 0;
}
