// Allocates, says so, and waits: to be linked in unusual ways (statically, with an allocator inside, with a
// sanitizer).
#include <stdlib.h>

#include "test/victims/kit.h"

static void* kept[2];

NOINLINE void simple_home(void) {
  kept[0] = malloc(1999993);
  kept[1] = strdup("some text");
  END_OF_FRAME();
}

int main(void) {
  simple_home();
  serve_until_end();
  free(kept[0]);
  free(kept[1]);
  return 0;
}
