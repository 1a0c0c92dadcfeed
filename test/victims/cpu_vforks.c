// Children that share our memory: by vfork, and by a raw clone with a stack of its own. Each burns in
// burn_in_child() and ends, so the parent's time, spent in burn_in_parent(), must not be charged with it.
// Goes on for ever. Command "report" prints the rounds, and the ns that the parent burnt.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static unsigned long rounds, problems;

NOINLINE void burn_in_child(void) {
  burn(2000000);
  END_OF_FRAME();
}

NOINLINE void burn_in_parent(void) {
  burn(2000000);
  END_OF_FRAME();
}

static int in_clone(void* unused) {
  (void)unused;
  burn_in_child();
  _exit(7);
}

static void wait_for(pid_t child) {
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
    ++problems;
}

NOINLINE void* share_memory(void* unused) {
  static char stack[256 << 10];
  for (;; ++rounds) {
    burn_in_parent();
    const pid_t child = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
    if (child == 0) {
      burn_in_child();
      _exit(7);
    }
    wait_for(child);
    burn_in_parent();
    wait_for(clone(in_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
  }
  return unused;
}

int main(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, share_memory, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    char line[64];
    snprintf(line, sizeof line, "rounds %lu problems %lu\n", rounds, problems);
    say(line);
    say("done\n");
  }
  exit(0);
}
