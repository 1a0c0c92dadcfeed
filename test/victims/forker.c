// Forks a child that allocates. Parent and child both wait; each says its pid. The child ends with the
// parent's input.
// "--grandchild": the child forks once more (a daemon does) and leaves.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/kit.h"

static void* kept[4];

NOINLINE void parent_only(void) {
  kept[0] = malloc(1999889);
  END_OF_FRAME();
}
NOINLINE void before_fork(void) {
  kept[1] = malloc(1999867);
  END_OF_FRAME();
}
NOINLINE void child_only(void) {
  kept[2] = malloc(1999853);
  END_OF_FRAME();
}

static void say_pid(const char* who) {
  char line[64];
  snprintf(line, sizeof line, "%s %d\n", who, (int)getpid());
  say(line);
}

int main(int argc, char** argv) {
  const int daemon_like = argc > 1 && strcmp(argv[1], "--grandchild") == 0;
  before_fork();
  // The child reads the end of input from this pipe when the parent has gone, however it went.
  int lifeline[2];
  if (pipe(lifeline) != 0) return 1;
  const pid_t child = fork();
  if (child == 0) {
    close(lifeline[1]);
    if (daemon_like && fork() != 0) _exit(0);
    child_only();
    say_pid("child");
    char byte;
    while (read(lifeline[0], &byte, 1) == 1) child_only();
    _exit(7);
  }
  close(lifeline[0]);
  if (daemon_like) waitpid(child, NULL, 0);
  parent_only();
  say_pid("parent");
  serve_until_end();
  close(lifeline[1]);
  int status = 0;
  if (!daemon_like && (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7))
    say("wrong child status\n");
  // No child but ours: a profiler that forks would show here.
  if (waitpid(-1, NULL, 0) != -1) say("a child that is not ours\n");
  return 0;
}
