// Memory in which a condition and a semaphore were, whose waiters were cancelled, and in which two mutexes
// are later:
//   cancel   threads begin to wait for the condition and for the semaphore, and are cancelled
//   lock     a thread waits for each of the mutexes, which are given back in two functions
// Prints "NAME at_least at_most" for these: what was waited for each, in ns.
#include <pthread.h>
#include <semaphore.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kRounds = 10 };

union Room {
  pthread_cond_t cond;
  sem_t semaphore;
  pthread_mutex_t mutex;
};
static union Room rooms[2];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static int tid;
static long long begin;

static void unlock_guard(void* argument) {
  (void)argument;
  pthread_mutex_unlock(&guard);
}

static void* wait_for_cond(void* argument) {
  pthread_mutex_lock(&guard);
  pthread_cleanup_push(unlock_guard, NULL);
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  for (;;) pthread_cond_wait(&rooms[0].cond, &guard);
  pthread_cleanup_pop(1);
  return argument;
}

static void* wait_for_unit(void* argument) {
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  for (;;) sem_wait(&rooms[1].semaphore);
  return argument;
}

static void cancel_in(void* (*function)(void*)) {
  pthread_t thread;
  tid = 0;
  pthread_create(&thread, NULL, function, NULL);
  await_sleep(&tid);
  pthread_cancel(thread);
  pthread_join(thread, NULL);
}

static void cancel_all(void) {
  pthread_cond_init(&rooms[0].cond, NULL);
  sem_init(&rooms[1].semaphore, 0, 0);
  for (int i = 0; i < kRounds; ++i) {
    cancel_in(wait_for_cond);
    cancel_in(wait_for_unit);
  }
  pthread_cond_destroy(&rooms[0].cond);
  sem_destroy(&rooms[1].semaphore);
}

static void* waits(void* mutex) {
  begin = now_ns();
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(mutex);
  pthread_mutex_unlock(mutex);
  return NULL;
}

NOINLINE static void where_the_condition_was(void) {
  pthread_mutex_unlock(&rooms[0].mutex);
  END_OF_FRAME();
}
NOINLINE static void where_the_semaphore_was(void) {
  pthread_mutex_unlock(&rooms[1].mutex);
  END_OF_FRAME();
}

static void contend(pthread_mutex_t* mutex, const char* name, void (*give_back)(void)) {
  pthread_t thread;
  char line[128];
  tid = 0;
  pthread_mutex_init(mutex, NULL);
  pthread_mutex_lock(mutex);
  pthread_create(&thread, NULL, waits, mutex);
  await_sleep(&tid);
  const long long asleep = now_ns();
  sleep_ms(20);
  const long long before = now_ns();
  give_back();
  snprintf(line, sizeof line, "%s %lld %lld\n", name, before - asleep, now_ns() - begin);
  say(line);
  pthread_join(thread, NULL);
  pthread_mutex_destroy(mutex);
}

int main(void) {
  char command[64];
  say("ready\n");
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "cancel") == 0) cancel_all();
    if (strcmp(command, "lock") == 0) {
      contend(&rooms[0].mutex, "where_the_condition_was", where_the_condition_was);
      contend(&rooms[1].mutex, "where_the_semaphore_was", where_the_semaphore_was);
    }
    say("done\n");
  }
  return 0;
}
