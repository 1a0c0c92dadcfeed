// realloc fails for want of address space (RLIMIT_AS): the old block is still there and still counted, once.
// "free" gives it back, "again" grows it while there is space.
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "test/victims/kit.h"

static void* block;

NOINLINE void first_home(void) {
  block = malloc(5000011);
  USE(block);
  END_OF_FRAME();
}

NOINLINE void failing_realloc(void) {
  errno = 0;
  if (realloc(block, (size_t)8 << 30) != NULL) say("it did not fail\n");
  if (errno != ENOMEM) say("wrong errno\n");
  END_OF_FRAME();
}

NOINLINE void second_home(void) {
  block = realloc(block, 6000011);
  END_OF_FRAME();
}

int main(void) {
  first_home();
  struct rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = (size_t)2 << 30;
  setrlimit(RLIMIT_AS, &limit);
  for (int i = 0; i < 100; ++i) failing_realloc();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "again") == 0) second_home();
    if (strcmp(command, "free") == 0) free(block);
    say("done\n");
  }
  return 0;
}
