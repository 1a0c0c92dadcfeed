// A signal handler that leaves waits by siglongjmp, ROUNDS times and at all points of the call. Then the same
// thread sleeps in a function sleeps_after, before it does anything else, and waits in waits_after for what
// another one gives back in gives_back_after.
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static sigjmp_buf place;
static int empty_pipe[2];
static int word;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int main_tid;
static sem_t taken;

static void on_alarm(int number) {
  (void)number;
  siglongjmp(place, 1);
}

// Only calls that may be left so (async-signal-safe ones): sem_wait() and pthread_join() have notes of libc's
// on the stack, which a jump at the wrong moment makes it follow.
static void wait_somewhere(int round) {
  const struct timespec minute = {60, 0};
  char byte;
  switch (round % 5) {
    case 0:
      for (;;) nanosleep(&minute, NULL);
    case 1:
      for (;;) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    case 2:
      // A wait after a wait, so that the signal also comes at their ends.
      for (;;) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    case 3:
      for (;;)
        if (read(empty_pipe[0], &byte, 1) == 1) return;
    default:
      for (;;) poll(NULL, 0, -1);
  }
}

NOINLINE static void sleeps_after(void) {
  const struct timespec soon = {0, 1000000};
  for (int i = 0; i < 20; ++i) nanosleep(&soon, NULL);
}

NOINLINE static void* gives_back_after(void* argument) {
  pthread_mutex_lock(&mutex);
  sem_post(&taken);
  await_sleep(&main_tid);
  pthread_mutex_unlock(&mutex);
  return argument;
}

NOINLINE static void waits_after(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, gives_back_after, NULL);
  while (sem_wait(&taken) != 0) {
  }
  __atomic_store_n(&main_tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
}

int main(int count, char** arguments) {
  const int rounds = count > 1 ? atoi(arguments[1]) : 10000;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, NULL);
  if (pipe(empty_pipe) != 0) return 1;
  sem_init(&taken, 0, 0);
  volatile int jumps = 0;
  while (jumps < rounds) {
    // From 1 us on, uneven, so that the signal comes while the call begins as well as when it sleeps.
    const struct itimerval timer = {{0, 0}, {0, 1 + jumps * 7 % 61}};
    if (sigsetjmp(place, 1) == 0) {
      setitimer(ITIMER_REAL, &timer, NULL);
      wait_somewhere(jumps);
    }
    ++jumps;
  }
  sleeps_after();
  waits_after();
  char line[64];
  snprintf(line, sizeof line, "%d jumps\n", jumps);
  say(line);
  serve_until_end();
  return 0;
}
