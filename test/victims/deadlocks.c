// Threads that wait for each other, or seem to. The first argument says how:
//   abba       two threads take two mutexes, each in its own order
//   probed     the same, after it was tried whether there are system call filters
//   timed      the same, but they give up after a minute
//   signals    as abba, and both are interrupted again and again
//   three      a circle of a mutex, a read-write lock that is being written and a join; one more waits for it
//   self       one thread locks a mutex twice
//   condition  one thread is woken from a condition and cannot have the mutex again
//   chain N    N threads in a row, the first of which holds up all and waits for nobody
//   dead       a thread ends with a mutex in its hands
//   fork       a child waits for a mutex that another thread of its parent had
//   readers    a writer waits for a reader, who waits for a mutex of the writer's: nobody notes who reads
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t b = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t door = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t meet;
static int tids[4];

static void waits_now(int number, const char* name) {
  prctl(PR_SET_NAME, name);
  __atomic_store_n(&tids[number], own_tid(), __ATOMIC_RELEASE);
}

static pthread_t start(void* (*routine)(void*), void* argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, routine, argument) != 0) _exit(5);
  return thread;
}

NOINLINE void* takes_a_then_b(void* unused) {
  pthread_mutex_lock(&a);
  pthread_barrier_wait(&meet);
  waits_now(0, "first");
  pthread_mutex_lock(&b);
  return unused;
}

NOINLINE void* takes_b_then_a(void* unused) {
  pthread_mutex_lock(&b);
  pthread_barrier_wait(&meet);
  waits_now(1, "second");
  pthread_mutex_lock(&a);
  return unused;
}

NOINLINE void* tries_a_then_b(void* unused) {
  const struct timespec until = in_a_minute(CLOCK_REALTIME);
  pthread_mutex_lock(&a);
  pthread_barrier_wait(&meet);
  waits_now(0, "first");
  pthread_mutex_timedlock(&b, &until);
  return unused;
}

static void abba(void* (*first)(void*)) {
  pthread_barrier_init(&meet, NULL, 2);
  start(first, NULL);
  start(takes_b_then_a, NULL);
  await_sleep(&tids[0]);
  await_sleep(&tids[1]);
}

static void ignore(int number) {
  (void)number;
}

static void* interrupts(void* unused) {
  for (;;) {
    syscall(SYS_tgkill, getpid(), tids[0], SIGUSR1);
    syscall(SYS_tgkill, getpid(), tids[1], SIGUSR1);
    sleep_ms(5);
  }
  return unused;
}

static void abba_with_signals(void) {
  signal(SIGUSR1, ignore);
  abba(takes_a_then_b);
  start(interrupts, NULL);
}

// a: waits_for_door -> door: joins_third -> its end: third_takes_a -> a
NOINLINE void* waits_for_door(void* unused) {
  pthread_mutex_lock(&a);
  pthread_barrier_wait(&meet);
  waits_now(0, "first");
  pthread_rwlock_rdlock(&door);
  return unused;
}

NOINLINE void* third_takes_a(void* unused) {
  pthread_barrier_wait(&meet);
  waits_now(2, "third");
  pthread_mutex_lock(&a);
  return unused;
}

NOINLINE void* joins_third(void* unused) {
  const pthread_t third = start(third_takes_a, NULL);
  pthread_rwlock_wrlock(&door);
  pthread_barrier_wait(&meet);
  waits_now(1, "second");
  pthread_join(third, NULL);
  return unused;
}

NOINLINE void* waits_behind(void* unused) {
  waits_now(3, "behind");
  pthread_rwlock_wrlock(&door);
  return unused;
}

static void three(void) {
  pthread_barrier_init(&meet, NULL, 3);
  start(waits_for_door, NULL);
  start(joins_third, NULL);
  for (int i = 0; i < 3; ++i) await_sleep(&tids[i]);
  start(waits_behind, NULL);
  await_sleep(&tids[3]);
}

NOINLINE void* locks_twice(void* unused) {
  pthread_mutex_lock(&a);
  waits_now(0, "first");
  pthread_mutex_lock(&a);
  return unused;
}

// b is given back to wait for the bell, and wanted again.
NOINLINE void* waits_for_bell(void* unused) {
  pthread_mutex_lock(&a);
  pthread_mutex_lock(&b);
  waits_now(0, "first");
  pthread_cond_wait(&bell, &b);
  return unused;
}

NOINLINE void* rings_bell(void* unused) {
  await_sleep(&tids[0]);
  pthread_mutex_lock(&b);
  pthread_cond_signal(&bell);
  waits_now(1, "second");
  pthread_mutex_lock(&a);
  return unused;
}

static int links;
static pthread_mutex_t* chain;
static int link_tid;

NOINLINE void* is_link(void* number) {
  const long i = (long)number;
  pthread_mutex_lock(&chain[i]);
  __atomic_store_n(&link_tid, own_tid(), __ATOMIC_RELEASE);
  if (i == 0) pause();
  pthread_mutex_lock(&chain[i - 1]);
  return NULL;
}

static void make_chain(void) {
  chain = calloc((size_t)links, sizeof *chain);
  for (long i = 0; i < links; ++i) {
    link_tid = 0;
    start(is_link, (void*)i);
    await_sleep(&link_tid);
  }
}

NOINLINE void* ends_with_a(void* unused) {
  pthread_mutex_lock(&a);
  return unused;
}

NOINLINE void* waits_for_dead(void* unused) {
  waits_now(0, "first");
  pthread_mutex_lock(&a);
  return unused;
}

static void dead(void) {
  pthread_join(start(ends_with_a, NULL), NULL);
  start(waits_for_dead, NULL);
  await_sleep(&tids[0]);
}

NOINLINE void* holds_a(void* unused) {
  pthread_mutex_lock(&a);
  __atomic_store_n(&tids[1], own_tid(), __ATOMIC_RELEASE);
  for (;;) pause();
  return unused;
}

static int lifeline[2];

static void fork_with_lock(void) {
  start(holds_a, NULL);
  await_sleep(&tids[1]);
  if (pipe(lifeline) != 0) _exit(5);
  if (fork() != 0) {
    close(lifeline[0]);
    return;
  }
  close(lifeline[1]);
  free(malloc(1));  // a child opens its address when it allocates
  start(waits_for_dead, NULL);
  await_sleep(&tids[0]);
  char line[32];
  snprintf(line, sizeof line, "child %d\n", (int)getpid());
  say(line);
  char byte;
  while (read(lifeline[0], &byte, 1) == 1) {
  }
  _exit(0);
}

NOINLINE void* reads_then_takes_a(void* unused) {
  pthread_rwlock_rdlock(&door);
  pthread_barrier_wait(&meet);
  waits_now(0, "first");
  pthread_mutex_lock(&a);
  return unused;
}

NOINLINE void* takes_a_then_writes(void* unused) {
  pthread_mutex_lock(&a);
  pthread_barrier_wait(&meet);
  waits_now(1, "second");
  pthread_rwlock_wrlock(&door);
  return unused;
}

static void readers(void) {
  pthread_barrier_init(&meet, NULL, 2);
  start(reads_then_takes_a, NULL);
  start(takes_a_then_writes, NULL);
  await_sleep(&tids[0]);
  await_sleep(&tids[1]);
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  links = argc > 2 ? atoi(argv[2]) : 0;
  if (strcmp(how, "abba") == 0) abba(takes_a_then_b);
  if (strcmp(how, "probed") == 0) {
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == 0 || errno != EFAULT) return 2;
    abba(takes_a_then_b);
  }
  if (strcmp(how, "timed") == 0) abba(tries_a_then_b);
  if (strcmp(how, "signals") == 0) abba_with_signals();
  if (strcmp(how, "three") == 0) three();
  if (strcmp(how, "self") == 0) {
    start(locks_twice, NULL);
    await_sleep(&tids[0]);
  }
  if (strcmp(how, "condition") == 0) {
    start(waits_for_bell, NULL);
    start(rings_bell, NULL);
    await_sleep(&tids[1]);
  }
  if (strcmp(how, "chain") == 0) make_chain();
  if (strcmp(how, "dead") == 0) dead();
  if (strcmp(how, "fork") == 0) fork_with_lock();
  if (strcmp(how, "readers") == 0) readers();
  serve_until_end();
  _exit(0);
}
