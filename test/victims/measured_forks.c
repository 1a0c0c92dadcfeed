// Sleeps a little at the command "sleep". At "fork" a child sleeps, says its pid and lives as long as the
// parent.
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

NOINLINE static void parent_sleeps(void) {
  // One call, whatever the time is.
  const struct timespec millisecond = {0, 1000000};
  nanosleep(&millisecond, NULL);
  END_OF_FRAME();
}
NOINLINE static void child_sleeps(void) {
  sleep_ms(1);
  END_OF_FRAME();
}

static pid_t start_child(int* lifeline) {
  const pid_t child = fork();
  if (child != 0) return child;
  char line[64];
  char byte;
  close(lifeline[1]);
  for (int i = 0; i < 20; ++i) child_sleeps();
  free(malloc(1));  // a child opens its address when it allocates
  snprintf(line, sizeof line, "child %d\n", (int)getpid());
  say(line);
  while (read(lifeline[0], &byte, 1) == 1) {
  }
  _exit(0);
}

int main(void) {
  int lifeline[2];
  char command[64];
  pid_t child = 0;
  if (pipe(lifeline) != 0) return 2;
  say("ready\n");
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "sleep") == 0) parent_sleeps();
    if (strcmp(command, "fork") == 0) child = start_child(lifeline);
    say("done\n");
  }
  close(lifeline[1]);
  if (child != 0) waitpid(child, NULL, 0);
  return 0;
}
