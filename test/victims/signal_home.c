// Which thread runs the handlers of signals that are sent to the process? The main one waits for nothing
// else, and another burns with them blocked: any other thread would be somebody else's. Command "report".
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static pid_t main_tid;
static unsigned at_home, elsewhere;

static void handle(int number) {
  (void)number;
  __atomic_add_fetch(own_tid() == main_tid ? &at_home : &elsewhere, 1, __ATOMIC_RELAXED);
}

NOINLINE void* burn_for_ever(void* unused) {
  for (;;) spin_a_while();
  return unused;
}

int main(void) {
  static const int kSignals[] = {SIGUSR1, SIGUSR2, SIGCHLD, SIGTERM, SIGHUP};
  main_tid = own_tid();
  sigset_t set;
  sigemptyset(&set);
  struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
  for (size_t i = 0; i < sizeof kSignals / sizeof *kSignals; ++i) {
    sigaction(kSignals[i], &action, NULL);
    sigaddset(&set, kSignals[i]);
  }
  sigset_t open;
  pthread_sigmask(SIG_BLOCK, &set, &open);
  pthread_t thread;
  pthread_create(&thread, NULL, burn_for_ever, NULL);
  pthread_sigmask(SIG_SETMASK, &open, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    char line[64];
    snprintf(line, sizeof line, "at home %u, elsewhere %u\n", at_home, elsewhere);
    say(line);
    say("done\n");
  }
  exit(0);
}
