// mlockall(MCL_CURRENT | MCL_FUTURE): every page that anybody maps from now on is in memory at once. Prints
// VmLck in kB.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "test/victims/kit.h"

static void print_locked(void) {
  FILE* status = fopen("/proc/self/status", "r");
  char line[256];
  while (status != NULL && fgets(line, sizeof line, status) != NULL)
    if (strncmp(line, "VmLck:", 6) == 0) say(line);
  if (status != NULL) fclose(status);
}

NOINLINE void locked_home(void) {
  void* block = malloc(123457);
  USE(block);
  END_OF_FRAME();
}

int main(void) {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    say("cannot lock\nready\n");
    return 0;
  }
  for (int i = 0; i < 10; ++i) locked_home();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    print_locked();
    say("done\n");
  }
  return 0;
}
