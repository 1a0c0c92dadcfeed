// Threads that stand where the test says: 50 in f2() at a semaphore, 40 in f3() at a mutex that the main
// thread holds, 10 in f1() at a pipe that nobody writes to, and one each
//
//   waits_unhooked  in write() to a full pipe, which we do not hook
//   waits_in_handler  in a signal handler that came upon it in a wait
//   jumped          in a wait that it entered after it had left another one by longjmp
//
// "--burn": two more run, one with all signals blocked. "--churn": two more create threads that end at once,
// all the time. "--idle N": N more at the semaphore.
// Commands: "nobody" and "chroot" give up what the agent reads.
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static sem_t never, interrupted;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int empty[2], full[2];

enum { kStanding = 103 };
static int tids[kStanding];
static int standing;
// Right before the call that the thread waits in.
static void note_standing(void) {
  const int at = __atomic_fetch_add(&standing, 1, __ATOMIC_RELAXED);
  if (at < kStanding) __atomic_store_n(&tids[at], own_tid(), __ATOMIC_RELEASE);
}

NOINLINE void* f1(void* unused) {
  char byte;
  note_standing();
  if (read(empty[0], &byte, 1) != 0) END_OF_FRAME();
  return unused;
}
NOINLINE void* f2(void* unused) {
  note_standing();
  sem_wait(&never);
  END_OF_FRAME();
  return unused;
}
NOINLINE void* f3(void* unused) {
  note_standing();
  pthread_mutex_lock(&mutex);
  END_OF_FRAME();
  return unused;
}

NOINLINE void* waits_unhooked(void* unused) {
  static char bytes[1 << 20];
  note_standing();
  if (write(full[1], bytes, sizeof bytes) > 0) END_OF_FRAME();
  return unused;
}

static int waiter;
NOINLINE void in_handler(int number) {
  (void)number;
  struct timespec hour = {3600, 0};
  note_standing();
  nanosleep(&hour, NULL);
  END_OF_FRAME();
}
NOINLINE void* waits_in_handler(void* unused) {
  signal(SIGUSR1, in_handler);
  __atomic_store_n(&waiter, own_tid(), __ATOMIC_RELEASE);
  sem_wait(&interrupted);
  END_OF_FRAME();
  return unused;
}

static sigjmp_buf out;
static int jumper;
static void jump(int number) {
  (void)number;
  siglongjmp(out, 1);
}
NOINLINE void leaves(void) {
  __atomic_store_n(&jumper, own_tid(), __ATOMIC_RELEASE);
  sem_wait(&interrupted);
  END_OF_FRAME();
}
NOINLINE void* jumped(void* unused) {
  static char bytes[1 << 20];
  signal(SIGUSR2, jump);
  if (sigsetjmp(out, 1) == 0) leaves();
  note_standing();
  if (write(full[1], bytes, sizeof bytes) > 0) END_OF_FRAME();
  return unused;
}

static int burning;  // threads that have begun to

NOINLINE void* burns(void* unused) {
  __atomic_fetch_add(&burning, 1, __ATOMIC_RELEASE);
  for (volatile unsigned long i = 0;; ++i) END_OF_FRAME();
  return unused;
}
NOINLINE void* burns_masked(void* unused) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  __atomic_fetch_add(&burning, 1, __ATOMIC_RELEASE);
  for (volatile unsigned long i = 0;; ++i) END_OF_FRAME();
  return unused;
}

static void* nothing(void* unused) {
  return unused;
}

static pthread_t start(void* (*function)(void*), const char* name) {
  pthread_t thread;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  if (pthread_create(&thread, &small, function, NULL) != 0) _exit(1);
  if (name != NULL) pthread_setname_np(thread, name);
  return thread;
}

NOINLINE void* churns(void* unused) {
  for (;;) {
    pthread_join(start(nothing, NULL), NULL);
    sleep_ms(1);
  }
  return unused;
}

int main(int argc, char** argv) {
  sem_init(&never, 0, 0);
  sem_init(&interrupted, 0, 0);
  if (pipe(empty) != 0 || pipe(full) != 0) return 1;
  pthread_mutex_lock(&mutex);
  prctl(PR_SET_NAME, "holder");
  for (int i = 0; i < 50; ++i) start(f2, "stander");
  for (int i = 0; i < 40; ++i) start(f3, "stander");
  for (int i = 0; i < 10; ++i) start(f1, "stander");
  start(waits_unhooked, "unhooked");
  const pthread_t handles = start(waits_in_handler, "handles");
  const pthread_t jumps = start(jumped, "jumped");
  await_sleep(&waiter);
  pthread_kill(handles, SIGUSR1);
  await_sleep(&jumper);
  pthread_kill(jumps, SIGUSR2);
  for (int i = 0; i < kStanding; ++i) await_sleep(&tids[i]);
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--churn") == 0) {
      start(churns, "churner");
      start(churns, "churner");
    } else if (strcmp(argv[i], "--burn") == 0) {
      start(burns_masked, "masked");
      start(burns, "burner");
      while (__atomic_load_n(&burning, __ATOMIC_ACQUIRE) < 2) sleep_ms(1);
    } else if (strcmp(argv[i], "--idle") == 0) {
      const int more = atoi(argv[++i]);
      for (int left = more; left > 0; --left) start(f2, "stander");
      while (__atomic_load_n(&standing, __ATOMIC_RELAXED) < kStanding + more) sleep_ms(1);
    }
  }
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "nobody") == 0 &&
        (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
      return 1;
    if (strcmp(command, "chroot") == 0 && (chroot(argv[argc - 1]) != 0 || chdir("/") != 0)) return 1;
    // A new thread of the program's has ours started again.
    pthread_join(start(nothing, NULL), NULL);
    say("done\n");
  }
  _exit(0);
}
