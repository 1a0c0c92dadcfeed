// Sets every signal to its default action, or to be ignored, as shells and daemons do; a sampling signal
// whose default action is to end the process must not come after that. A thread burns meanwhile.
//
//   sigaction   to the default, by sigaction(), and asks what it was
//   signal      to the default, by signal()
//   ignore      all ignored, and then to the default again
//   raw         to the default, by the system call
//
// Every command does it a thousand times and reports what was not as the program had left it.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

NOINLINE void* burn_for_ever(void* unused) {
  name_thread("burner");
  for (;;) spin_a_while();
  return unused;
}

static int can_be_set(int number) {
  return number != SIGKILL && number != SIGSTOP && number != 32 && number != 33;  // the last two are libc's
}

static unsigned wrong;

static void by_sigaction(int number, sighandler_t expected, sighandler_t wanted) {
  struct sigaction action = {.sa_handler = wanted};
  struct sigaction old;
  if (sigaction(number, &action, &old) != 0 || old.sa_handler != expected) ++wrong;
  if (sigaction(number, NULL, &old) != 0 || old.sa_handler != wanted) ++wrong;
}

static void by_signal(int number, sighandler_t expected, sighandler_t wanted) {
  if (signal(number, wanted) != expected) ++wrong;
}

static void by_system_call(int number) {
  struct {
    sighandler_t handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } action = {SIG_DFL, 0, NULL, 0};
  syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask);
}

static void reset_all(const char* how) {
  for (int number = 1; number <= 64; ++number) {
    if (!can_be_set(number)) continue;
    if (strcmp(how, "sigaction") == 0) by_sigaction(number, SIG_DFL, SIG_DFL);
    if (strcmp(how, "signal") == 0) by_signal(number, SIG_DFL, SIG_DFL);
    if (strcmp(how, "ignore") == 0) {
      by_sigaction(number, SIG_DFL, SIG_IGN);
      by_signal(number, SIG_IGN, SIG_DFL);
    }
    if (strcmp(how, "raw") == 0) by_system_call(number);
  }
}

int main(void) {
  // Whatever the caller left ignored.
  for (int number = 1; number <= 64; ++number)
    if (can_be_set(number)) signal(number, SIG_DFL);
  pthread_t thread;
  pthread_create(&thread, NULL, burn_for_ever, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    wrong = 0;
    for (int i = 0; i < 1000; ++i) reset_all(command);
    char line[64];
    snprintf(line, sizeof line, "%s: %u wrong\n", command, wrong);
    say(line);
    say("done\n");
  }
  exit(0);
}
