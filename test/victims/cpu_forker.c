// Forks when told to. Parent and child burn in functions of their own, each in a thread and after fork in the
// child's only one; the child ends with the parent's input.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static int lifeline[2];

NOINLINE void* burn_in_parent(void* unused) {
  name_thread("parent");
  for (;;) spin_a_while();
  return unused;
}

NOINLINE void* burn_in_childs_thread(void* unused) {
  name_thread("childs-thread");
  for (;;) spin_a_while();
  return unused;
}

NOINLINE void burn_in_child(void) {
  spin_a_while();
  END_OF_FRAME();
}

NOINLINE void* wait_for_end(void* unused) {
  char byte;
  while (read(lifeline[0], &byte, 1) == 1) {
  }
  _exit(7);
  return unused;
}

static void be_child(void) {
  close(lifeline[1]);
  char line[64];
  snprintf(line, sizeof line, "child %d\n", (int)getpid());
  say(line);
  // The agent comes back in a child with its first allocations.
  for (int i = 0; i < 1000; ++i) free(malloc(2048));
  pthread_t threads[2];
  pthread_create(&threads[0], NULL, wait_for_end, NULL);
  pthread_create(&threads[1], NULL, burn_in_childs_thread, NULL);
  for (;;) burn_in_child();
}

int main(void) {
  if (pipe(lifeline) != 0) return 1;
  pthread_t thread;
  pthread_create(&thread, NULL, burn_in_parent, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    const pid_t child = fork();
    if (child == 0) be_child();
    if (child < 0) say("fork failed\n");
    say("done\n");
  }
  close(lifeline[0]);
  close(lifeline[1]);
  int status = 0;
  while (waitpid(-1, &status, 0) > 0)
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) say("wrong child status\n");
  exit(0);
}
