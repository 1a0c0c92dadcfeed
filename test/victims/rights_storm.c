// Gives up a right again and again, at "storm" 300 times, in a signal handler as well, while another thread
// makes threads, by each of which the agent's may come back.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/time.h>

#include "test/victims/kit.h"

static int stop;

static void* nothing(void* argument) {
  return argument;
}

static void* make_threads(void* unused) {
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) != 0) _exit(2);
    pthread_join(thread, NULL);
  }
  return unused;
}

static void give_up(int unused) {
  (void)unused;
  prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
}

static void storm(void) {
  const struct itimerval often = {{0, 2000}, {0, 2000}};
  const struct itimerval never = {{0, 0}, {0, 0}};
  pthread_t maker;
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
  __atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
  if (pthread_create(&maker, NULL, make_threads, NULL) != 0) _exit(2);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 300; ++i) {
    give_up(0);
    free(malloc(1 << 20));
  }
  setitimer(ITIMER_REAL, &never, NULL);
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  pthread_join(maker, NULL);
}

int main(void) {
  const struct sigaction action = {.sa_handler = give_up, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  char command[64];
  say("ready\n");
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "storm") == 0) storm();
    say("done\n");
  }
  return 0;
}
