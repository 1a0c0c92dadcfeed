// Uses jemalloc's own interface beside malloc, with the shared library.
#include <stdlib.h>

#include "test/victims/kit.h"

extern void* mallocx(size_t size, int flags);
extern void* rallocx(void* block, size_t size, int flags);
extern size_t xallocx(void* block, size_t size, size_t extra, int flags);
extern void sdallocx(void* block, size_t size, int flags);
extern void dallocx(void* block, int flags);

static void* kept[4];

NOINLINE void via_mallocx(void) {
  kept[0] = mallocx(1999993, 0);
  END_OF_FRAME();
}
NOINLINE void before_rallocx(void) {
  kept[1] = mallocx(10007, 0);
  END_OF_FRAME();
}
NOINLINE void via_rallocx(void) {
  kept[1] = rallocx(kept[1], 2999999, 0);
  END_OF_FRAME();
}
NOINLINE void via_plain_malloc(void) {
  kept[2] = malloc(1999957);
  END_OF_FRAME();
}

int main(void) {
  via_mallocx();
  before_rallocx();
  via_rallocx();
  via_plain_malloc();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "free") == 0) {
      sdallocx(kept[0], 1999993, 0);
      dallocx(kept[1], 0);
      free(kept[2]);
    }
    say("done\n");
  }
  return 0;
}
