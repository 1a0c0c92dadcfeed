// Leaks four threads in a function, forks, and says the pid of the child, which has none of them. Command
// "child": the child leaks two threads of its own. It ends with the parent.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/kit.h"

static sem_t started, never;

static void* wait_for_ever(void* unused) {
  sem_post(&started);
  while (sem_wait(&never) != 0) {
  }
  return unused;
}

static void make(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0) _exit(5);
    sem_wait(&started);
  }
}

NOINLINE void parent_leaks(void) {
  make(4);
  END_OF_FRAME();
}

NOINLINE void child_leaks(void) {
  make(2);
  END_OF_FRAME();
}

static void be_child(int orders, int answers) {
  char byte;
  char line[64];
  free(malloc(1));  // a child opens its address when it allocates
  snprintf(line, sizeof line, "child %d\n", (int)getpid());
  say(line);
  while (read(orders, &byte, 1) == 1) {
    child_leaks();
    if (write(answers, "!", 1) != 1) break;
  }
  _exit(0);
}

int main(void) {
  int orders[2], answers[2];
  sem_init(&started, 0, 0);
  sem_init(&never, 0, 0);
  if (pipe(orders) != 0 || pipe(answers) != 0) return 1;
  parent_leaks();
  const pid_t child = fork();
  if (child == 0) {
    close(orders[1]);
    be_child(orders[0], answers[1]);
  }
  char command[64];
  char byte;
  say("ready\n");
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "child") == 0 && (write(orders[1], "!", 1) != 1 || read(answers[0], &byte, 1) != 1))
      _exit(6);
    say("done\n");
  }
  close(orders[1]);
  waitpid(child, NULL, 0);
  return 0;
}
