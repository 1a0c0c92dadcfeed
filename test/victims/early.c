// Its library's constructor, which the loader runs before the agent's, has used the heap and made a thread.
#include <malloc.h>
#include <stdlib.h>

#include "test/victims/kit.h"

extern void* early_blocks[16];
extern int early_thread_ran;

NOINLINE void later_home(void) {
  for (int i = 0; i < 16; ++i) {
    if (malloc_usable_size(early_blocks[i]) < 100) say("too small\n");
    early_blocks[i] = realloc(early_blocks[i], 7001);
    if (early_blocks[i] == NULL || ((char*)early_blocks[i])[0] != 'e') say("contents lost\n");
  }
  END_OF_FRAME();
}

int main(void) {
  if (!early_thread_ran) say("the early thread did not run\n");
  later_home();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "free") == 0)
      for (int i = 0; i < 16; ++i) free(early_blocks[i]);
    say("done\n");
  }
  return 0;
}
