// pthread_create() that fails, N times for each command "fail N" ("done" when it has); then threads that are
// made after all and wait in a function after_failures.
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int tid;

NOINLINE static void* after_failures(void* argument) {
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return argument;
}

// A stack that no address space has room for: EAGAIN, as when the process has all the threads it may have.
static void fail(int times) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, (size_t)1 << 47);
  for (int i = 0; i < times; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, after_failures, NULL) != EAGAIN) _exit(5);
  }
  pthread_attr_destroy(&attributes);
}

static void succeed(void) {
  pthread_t thread;
  tid = 0;
  pthread_mutex_lock(&lock);
  if (pthread_create(&thread, NULL, after_failures, NULL) != 0) _exit(6);
  await_sleep(&tid);
  pthread_mutex_unlock(&lock);
  pthread_join(thread, NULL);
}

int main(void) {
  char command[64];
  succeed();
  say("ready\n");
  while (await_command(command, sizeof command)) {
    if (strncmp(command, "fail ", 5) == 0) fail(atoi(command + 5));
    if (strcmp(command, "succeed") == 0) succeed();
    say("done\n");
  }
  return 0;
}
