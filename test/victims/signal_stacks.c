// A program of one thread whose alternate signal stack has next to no room, or much.
//
//   small   2 KiB, by sigaltstack()
//   raw     the same, by syscall()
//   large   64 KiB
//   fork    a child, which lives as long as its parent; says "child" and its number
//   change  two more threads that spin, and have 2 and 64 KiB in turn, each for a moment
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kSmall = 2048, kLarge = 64 << 10 };
static char memory[3][kLarge];

static void have_stack(char* bytes, size_t size) {
  const stack_t stack = {.ss_sp = bytes, .ss_size = size};
  if (sigaltstack(&stack, NULL) != 0) say("refused\n");
}

NOINLINE void* change_often(void* bytes) {
  for (;;) {
    have_stack(bytes, kSmall);
    burn(3000000);
    have_stack(bytes, kLarge);
    burn(300000);
  }
  return NULL;
}

static void start_threads(void) {
  for (int i = 1; i < 3; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, change_often, memory[i]) != 0) _exit(1);
  }
}

static void fork_child(void) {
  const pid_t parent = getpid();
  if (fork() != 0) return;
  char line[32];
  snprintf(line, sizeof line, "child %d\n", (int)getpid());
  say(line);
  // The agent looks after itself when its program allocates.
  for (; getppid() == parent; usleep(10000)) free(malloc(100000));
  _exit(0);
}

int main(void) {
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    const stack_t small = {.ss_sp = memory[0], .ss_size = kSmall};
    if (strcmp(command, "small") == 0) have_stack(memory[0], kSmall);
    if (strcmp(command, "raw") == 0 && syscall(SYS_sigaltstack, &small, NULL) != 0) say("refused\n");
    if (strcmp(command, "large") == 0) have_stack(memory[0], kLarge);
    if (strcmp(command, "fork") == 0) fork_child();
    if (strcmp(command, "change") == 0) start_threads();
    for (int i = 0; i < 10; ++i) free(malloc(100000));
    say("done\n");
  }
  return 0;
}
