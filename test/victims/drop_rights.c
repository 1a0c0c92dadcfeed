// Single-threaded and allocates nothing: on the command "drop" gives up a right that only its own thread has.
#include <sys/prctl.h>

#include "test/victims/kit.h"

int main(void) {
  char command[64];
  say("ready\n");
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "drop") == 0) prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    say("done\n");
  }
  return 0;
}
